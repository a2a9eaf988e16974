"""What a root holds, as a short record: number of files, bytes, and one digest of their names and sizes.

In: a plan. Out: the record, which a build keeps with its first layer, so that another root at the same place is refused
and the same root is known wherever it lies. A file of its own because listing, claims and finished builds all compare
it. Names and sizes are those that the source lists; the digests of single files are added up, so that no list is held
and no order matters. Where archives stand for folders, their names, sizes and ends count, and no archive is unpacked.
"""

import hashlib
from typing import Any, Final

from infra import storage
from pipelines.data.archive.system_files import is_system_file_reason, find_system_file_reason
from pipelines.data.commit.workspace import Plan
from pipelines.data.sources import DATASETS
from pipelines.records import Photo, UsageError

_MODULUS: Final = 1 << 256
_END_BYTES: Final = 1 << 16
"""Of a zip they hold its directory with all checksums, of a compressed tar its checksum."""


class RootRecorder:
    """Sums up the files of a root, in any order."""

    def __init__(self) -> None:
        self._num_files = self._num_bytes = self._sum = 0

    def add_photo(self, photo: Photo) -> None:
        """Take in a file that a source lists, with the maps beside it; what operating systems leave does not count."""
        if not is_system_file_reason(photo.refusal):
            self.add_file(photo.path, photo.size_bytes, photo.split, photo.label or "")
            for plane in photo.planes:
                self.add_file(plane.path, plane.size_bytes)

    def add_file(self, path: str, size_bytes: int, *more: str) -> None:
        """Take in a file by its path under the root, its size and what else is known of it."""
        line = "\0".join((path, str(size_bytes), *more)).encode("utf-8", "surrogateescape")
        self._sum = (self._sum + int.from_bytes(hashlib.sha256(line).digest(), "big")) % _MODULUS
        self._num_files += 1
        self._num_bytes += size_bytes

    def record(self) -> dict[str, Any]:
        """The record: `num_files`, `num_bytes` and `sha256`, 64 hexadecimal digits."""
        return {"num_files": self._num_files, "num_bytes": self._num_bytes, "sha256": f"{self._sum:064x}"}


def record_of_root(plan: Plan) -> dict[str, Any]:
    """The record of the plan's root as it is now; one listing, and two small reads of each archive."""
    source = DATASETS[plan.recipe.source]
    if archives := source.archives_read(plan.root):
        return record_of_archives(plan.root, archives)
    recorder = RootRecorder()
    for item in source.listed(plan.root, plan.recipe.splits, plan.at("spilled")):
        if isinstance(item, Photo):
            recorder.add_photo(item)
    return recorder.record()


def record_of_archives(root: str, archives: list[str]) -> dict[str, Any]:
    """The record of a root that is an archive or holds some: all files under it, and the ends of those archives."""
    root, recorder = storage.to_absolute(root).rstrip("/"), RootRecorder()
    for name, size in storage.list_files(root) if archives != [root] else ():
        if find_system_file_reason(name) is None:
            recorder.add_file(name, size)
    for uri in archives:
        fs, path = storage.locate(uri)
        size = int(fs.size(path))
        first, last = ((0, min(size, _END_BYTES)), (max(0, size - _END_BYTES), size))
        ends = b"".join(storage.read_range(uri, *part) for part in (first, last))
        recorder.add_file(uri.removeprefix(root), size, hashlib.sha256(ends).hexdigest())
    return recorder.record() | {"archives": len(archives)}


def refuse_other_root(plan: Plan, there: dict[str, Any], now: dict[str, Any], example: str = "") -> None:
    """Raises UsageError where the plan's root, of which `now` is the record, holds other files than `there` says."""
    if there["sha256"] == now["sha256"]:
        return
    counts = [f"{record['num_files']} files, {record['num_bytes']} bytes" for record in (there, now)]
    difference = f"{counts[0]} then, {counts[1]} now" if counts[0] != counts[1] else "other names or single sizes"
    raise UsageError(
        f"--root {plan.root} does not hold what {plan.out} is being or was built from ({difference}{example}): give "
        f"the same files again or another --out. `lacuna shard --out {plan.out} --add ROOT` adds photos to a "
        "finished dataset"
    )
