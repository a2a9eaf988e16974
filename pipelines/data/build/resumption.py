"""Check before a stopped build goes on: its root must hold the same files as when it was listed.

In: a plan whose workspace may hold a listing. Out: nothing, or `UsageError` naming a file.
"""

from itertools import zip_longest

from pipelines.data.archive.system_files import find_system_file_reason
from pipelines.data.build.roots import make_root_record, refuse_other_root
from pipelines.data.build.scan import files_at_listing, files_in_root, read_layout
from pipelines.data.commit.workspace import Layout, Plan


def is_movable(plan: Plan) -> bool:
    """Whether an unfinished build may go on from a root at another URI: it was listed, and not from archives."""
    layout = read_layout(plan)
    return layout is not None and layout.root is not None and "archives" not in layout.root


def refuse_changed_root(plan: Plan) -> None:
    """Raise UsageError where the plan's root differs from its listing, if there is one."""
    layout = read_layout(plan)
    if layout is None or layout.root is None:
        return
    now = make_root_record(plan)
    if now != layout.root:
        file = None if "archives" in now else _find_changed_file(plan, layout)
        refuse_other_root(plan, layout.root, now, f"; first {file}" if file else "")


def _find_changed_file(plan: Plan, layout: Layout) -> str | None:
    """Path of the first file that differs from the listing in name or size, None if none does."""
    both = files_at_listing(plan, layout), files_in_root(plan)
    listings = ((file for file in files if find_system_file_reason(file[0]) is None) for files in both)
    for before, after in zip_longest(*listings):
        if before != after:
            return str(min((file[0] for file in (before, after) if file), key=_make_sort_key))
    return None


def _make_sort_key(path: str) -> list[tuple[bool, str]]:
    """Sort key of a path: the files of a folder come before the folders in it."""
    *folders, name = path.split("/")
    return [*((True, folder) for folder in folders), (False, name)]
