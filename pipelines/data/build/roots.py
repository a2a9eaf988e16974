"""Record of a root: number of files, bytes, and one digest of their names and sizes.

In: a plan. Out: the record, which a build stores with its first layer: it refuses a root with other files at the same
URI, and recognizes the same files at another. Names and sizes are those that the source lists; the digests of single
files are added up, so that no list is held and no order matters. Where archives replace folders, their names, sizes and
ends count, and no archive is unpacked.
"""

import hashlib
from typing import Any, Final

from infra import storage
from pipelines.data.archive.system_files import find_system_file_reason, is_system_file_reason
from pipelines.data.commit.workspace import Plan
from pipelines.data.sources import DATASETS
from pipelines.records import Photo, UsageError

_MODULUS: Final = 1 << 256
_END_BYTES: Final = 1 << 16
"""The end of a zip holds its directory with all checksums, that of a compressed tar its checksum."""


class RootRecorder:
    """Sum over the files of a root, in any order."""

    def __init__(self) -> None:
        self._num_files = self._num_bytes = self._sum = 0

    def add_photo(self, photo: Photo) -> None:
        """Add a file that a source lists, with the maps beside it; files of operating systems do not count."""
        if not is_system_file_reason(photo.refusal):
            self.add_file(photo.path, photo.size_bytes, photo.split, photo.label or "")
            for plane in photo.planes:
                self.add_file(plane.path, plane.size_bytes)

    def add_file(self, path: str, size_bytes: int, *more: str) -> None:
        """Add a file by its path under the root, its size and further facts."""
        line = "\0".join((path, str(size_bytes), *more)).encode("utf-8", "surrogateescape")
        self._sum = (self._sum + int.from_bytes(hashlib.sha256(line).digest(), "big")) % _MODULUS
        self._num_files += 1
        self._num_bytes += size_bytes

    def make_record(self) -> dict[str, Any]:
        """The record: `num_files`, `num_bytes` and `sha256`, 64 hexadecimal digits."""
        return {"num_files": self._num_files, "num_bytes": self._num_bytes, "sha256": f"{self._sum:064x}"}


def make_root_record(plan: Plan) -> dict[str, Any]:
    """Record of the plan's root as it is now; costs one listing, and two small reads of each archive."""
    source = DATASETS[plan.config.source]
    if archives := source.list_archives(plan.root):
        return make_archives_record(plan.root, archives)
    recorder = RootRecorder()
    for item in source.list_items(plan.root, plan.config.splits, plan.at("spooled")):
        if isinstance(item, Photo):
            recorder.add_photo(item)
    return recorder.make_record()


def make_archives_record(root: str, archives: list[str]) -> dict[str, Any]:
    """Record of a root that is an archive or holds some: all files under it, and the ends of those archives."""
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
    return recorder.make_record() | {"archives": len(archives)}


def refuse_other_root(plan: Plan, there: dict[str, Any], now: dict[str, Any], example: str = "") -> None:
    """Raise UsageError where `now`, the record of the plan's root, differs from the stored record `there`."""
    if there["sha256"] == now["sha256"]:
        return
    counts = [f"{record['num_files']} files, {record['num_bytes']} bytes" for record in (there, now)]
    difference = f"{counts[0]} then, {counts[1]} now" if counts[0] != counts[1] else "other names or single sizes"
    raise UsageError(
        f"--root {plan.root} differs from the root that {plan.out} is being or was built from "
        f"({difference}{example}): give the same files again or another --out. "
        f"`lacuna shard --out {plan.out} --add ROOT` adds photos to a finished dataset"
    )
