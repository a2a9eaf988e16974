"""What the machine that a task runs on could do at most: the bare library calls for some photos, timed in the task.

In: photos, or a shard, that the task has just worked on. Out: the seconds that reading, digests, pixels and writing
take for all of them when nothing else is done. A file of its own because no byte may depend on it. What was just read
is read again: of a disk out of memory, of an object store by a further request.
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
from pipelines.data.image.normalize import clean
from pipelines.records import CorruptDataError, JobError, Photo, Sample, ShardRecord

NUM_TIMED: Final = 4
"""So many photos of a shard are timed: enough for a share, and a hundredth of the shard's own time."""
_REPEATS: Final = 2
_COPIED_BYTES: Final = 1 << 22

T = TypeVar("T")


def limit_of_photos(plan: Plan, photos: Sequence[Photo], num_photos: int) -> float:
    """Seconds for `num_photos` photos such as these; 0 where none of them can be read any more."""
    with _sink(plan.out) as sink:
        seconds = [bare for photo in photos if (bare := _seconds_of_photo(plan, photo, sink)) is not None]
    return sum(seconds) * num_photos / max(1, len(seconds))


def _seconds_of_photo(plan: Plan, photo: Photo, sink: IO[bytes]) -> float | None:
    """One read, one digest of what is read and of what is written, the pixels' way where they change, one write."""
    try:
        raw, reading = _timed(partial(read_photo, plan.root, photo))
    except (OSError, CorruptDataError, JobError):  # the build has read it before; who needs it again will say so
        return None
    sample, cleaning = _timed(partial(clean, raw, plan.recipe))
    if not isinstance(sample, Sample):
        return None
    pixels = cleaning if sample.normalised or plan.recipe.decode_check else 0.0
    return reading + pixels + _seconds_of_bytes(raw, sink, sample.picture)


def limit_of_copy(uri: str, shard: ShardRecord) -> float:
    """Seconds to read as many bytes as a shard has, to digest them twice as its parts and itself, and to write them."""
    size = min(shard.size_bytes, _COPIED_BYTES)
    data, reading = _timed(partial(storage.read_range, storage.join(uri, shard.file), 0, size))
    with _sink(uri) as sink:
        return (reading + _seconds_of_bytes(data, sink, data)) * shard.size_bytes / size


def _sink(uri: str) -> IO[bytes]:
    """A file without a name on the disk of the dataset, else in the temporary folder; gone when it is closed."""
    return tempfile.TemporaryFile(buffering=0, dir=storage.to_local_path(uri))


def _seconds_of_bytes(read: bytes, sink: IO[bytes], written: bytes) -> float:
    _, of_read = _timed(lambda: hashlib.sha256(read).digest())
    _, of_written = _timed(lambda: hashlib.sha256(written).digest())
    _, writing = _timed(partial(sink.write, written))
    return of_read + of_written + writing


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """What the work returns, and the seconds of its best repeat."""
    best = float("inf")
    for _ in range(_REPEATS):
        started = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - started)
    return result, best
