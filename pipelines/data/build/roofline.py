"""Roofline of a task: the bare library calls for some photos, timed on the same machine.

In: photos, or a shard, that the task has just worked on. Out: the seconds that reading, digests, pixels and writing
alone take for all of them. Files that were just read are read again: on a disk from the page cache, on an object store
by a further request. No stored byte depends on this.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO, Final, TypeVar

from infra import storage
from pipelines.data.archive.read import read_photo
from pipelines.data.commit.workspace import Plan
from pipelines.data.image.normalize import normalize_photo
from pipelines.records import CorruptDataError, JobError, Photo, Sample, ShardRecord

NUM_TIMED: Final = 4
"""Photos of a shard that are timed: enough for a share, in a hundredth of the shard's own time."""
_REPEATS: Final = 2
_COPIED_BYTES: Final = 1 << 22

T = TypeVar("T")


def estimate_photo_seconds(plan: Plan, photos: Sequence[Photo], num_photos: int) -> float:
    """Seconds for `num_photos` photos like these; 0 where none of them can be read any more."""
    with _open_sink(plan.out) as sink:
        seconds = [bare for photo in photos if (bare := _time_photo(plan, photo, sink)) is not None]
    return sum(seconds) * num_photos / max(1, len(seconds))


def _time_photo(plan: Plan, photo: Photo, sink: IO[bytes]) -> float | None:
    """Seconds of a read, a digest of the bytes read and of those written, the pixels if needed, and a write."""
    try:
        raw, reading = _time_work(partial(read_photo, plan.root, photo))
    except (OSError, CorruptDataError, JobError):  # the build has read it before: a fault now costs a figure only
        return None
    sample, cleaning = _time_work(partial(normalize_photo, raw, plan.config))
    if not isinstance(sample, Sample):
        return None
    pixels = cleaning if sample.normalised or plan.config.decode_check else 0.0
    return reading + pixels + _time_bytes(raw, sink, sample.picture)


def estimate_copy_seconds(uri: str, shard: ShardRecord) -> float:
    """Seconds to read the bytes of a shard, to digest them twice, as its parts and as a whole, and to write them."""
    size = min(shard.size_bytes, _COPIED_BYTES)
    data, reading = _time_work(partial(storage.read_range, storage.join(uri, shard.file), 0, size))
    with _open_sink(uri) as sink:
        return (reading + _time_bytes(data, sink, data)) * shard.size_bytes / size


def _open_sink(uri: str) -> IO[bytes]:
    """A file without a name on the disk of the dataset, else in the temporary folder; it vanishes when closed."""
    return tempfile.TemporaryFile(buffering=0, dir=storage.to_local_path(uri))


def _time_bytes(read: bytes, sink: IO[bytes], written: bytes) -> float:
    _, of_read = _time_work(lambda: hashlib.sha256(read).digest())
    _, of_written = _time_work(lambda: hashlib.sha256(written).digest())
    _, writing = _time_work(partial(sink.write, written))
    return of_read + of_written + writing


def _time_work(work: Callable[[], T]) -> tuple[T, float]:
    """Result of the work, and the seconds of its best repeat."""
    best = float("inf")
    for _ in range(_REPEATS):
        started = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - started)
    return result, best
