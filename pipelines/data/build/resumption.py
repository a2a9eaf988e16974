"""Whether a build that was stopped may go on: its root must hold what it held when it was listed.

In: a plan whose workspace may hold a listing. Out: nothing, or `UsageError` naming a file. A file of its own because it
compares two listings, and neither the listing nor the records of roots know of the other.
"""

from itertools import filterfalse, zip_longest

from pipelines.data.archive.system_files import find_system_file_reason
from pipelines.data.build.roots import record_of_root, refuse_other_root
from pipelines.data.build.scan import files_now, files_then, layout_so_far
from pipelines.data.commit.workspace import Layout, Plan


def is_movable(plan: Plan) -> bool:
    """Whether an unfinished build may go on from a root at another place: it was listed, and not from archives."""
    layout = layout_so_far(plan)
    return layout is not None and layout.root is not None and "archives" not in layout.root


def refuse_changed_root(plan: Plan) -> None:
    """Raises UsageError where the plan's root is not as it was listed; nothing was listed, nothing is compared."""
    layout = layout_so_far(plan)
    if layout is None or layout.root is None:
        return
    now = record_of_root(plan)
    if now != layout.root:
        file = None if "archives" in now else _first_other_file(plan, layout)
        refuse_other_root(plan, layout.root, now, f"; first {file}" if file else "")


def _first_other_file(plan: Plan, layout: Layout) -> str | None:
    """Path of the first file that the root holds otherwise than when it was listed; None where none is found."""
    listings = (filterfalse(_is_system_file, files) for files in (files_then(plan, layout), files_now(plan)))
    for before, after in zip_longest(*listings):
        if before != after:
            return str(min((file[0] for file in (before, after) if file), key=_order))
    return None


def _is_system_file(file: tuple[str, int]) -> bool:
    return find_system_file_reason(file[0]) is not None


def _order(path: str) -> list[tuple[bool, str]]:
    """Files of a folder are listed before the folders in it."""
    *folders, name = path.split("/")
    return [*((True, folder) for folder in folders), (False, name)]
