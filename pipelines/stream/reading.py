"""Samples from shards: positioned reads of exactly the members that are needed, each checked by CRC32.

In: shards of committed datasets and (shard, sample) numbers. Out: pictures or whole samples, or `CorruptDataError`
naming file and key. A shard that is not on a local disk is read through the cache of this machine, page by page: never
a request per sample, and a wrong page in the cache is fetched again before it counts as damage.
"""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

from isal import isal_zlib

from infra import storage
from infra.cache import Cache, CachedFile, Traffic, open_default_cache
from infra.retry import retry_transient
from pipelines.manifest import Dataset, read_table
from pipelines.records import CorruptDataError, Member, ShardRecord
from pipelines.stream.index import ShardIndex
from pipelines.stream.order import Segment

Result = TypeVar("Result")

_OPEN_SHARDS: Final = 256
_FETCHING_THREADS: Final = 4
_PICTURES: Final = frozenset({"jpg", "png", "webp"})


@dataclass(frozen=True)
class StoredSample:
    """Sample as stored in its shard."""

    key: str
    dataset: str
    picture: bytes
    note: dict[str, Any]
    """JSON of the sample: source, size, the steps of normalization, mask specs."""
    planes: dict[str, bytes]
    """Further pictures by name: PNGs of the planes and masks stored with it."""


def name_mask_plane(number: int) -> str:
    """Name of the plane that holds the mask of this number, from 0 on, if it is stored."""
    return f"mask{number + 1 if number else ''}"


class _LocalFile:
    """Shard on a local disk."""

    def __init__(self, path: Path, traffic: Traffic) -> None:
        self._stream = path.open("rb", buffering=0)
        self._traffic = traffic

    def read(self, start: int, end: int) -> bytes:
        self._traffic.num_bytes += end - start
        return os.pread(self._stream.fileno(), end - start, start)


class ShardReader:
    """Samples of one split of some datasets, by (shard, sample); shards are numbered through all datasets in order."""

    def __init__(self, datasets: tuple[Dataset, ...], split: str, cache: Cache | None = None) -> None:
        """`cache`: cache for remote shards, the one of the environment if not given."""
        self._parts = [(dataset, dataset.split(split)) for dataset in datasets]
        self._shard = lru_cache(maxsize=_OPEN_SHARDS)(self._find)
        self._cache = cache
        self._index = lru_cache(maxsize=_OPEN_SHARDS)(self._read_index)
        self._file = lru_cache(maxsize=_OPEN_SHARDS)(self._open)
        self._threads = lru_cache(maxsize=1)(lambda _process: ThreadPoolExecutor(_FETCHING_THREADS, "fetch-ahead"))
        self.traffic = Traffic()
        """Traffic of shards; their tables are not counted."""

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of samples of each shard."""
        return tuple(n for _, rows in self._parts for n in rows.numbers("num_samples").tolist())

    def read(self, shard: int, sample: int) -> StoredSample:
        """Sample with all its members; raises CorruptDataError where a byte differs."""
        parts = self.parts(shard, sample)
        note = json.loads(parts.pop("json"))
        (picture,) = (parts.pop(suffix) for suffix in list(parts) if "." not in suffix)
        planes = {suffix.removesuffix(".png"): data for suffix, data in parts.items()}
        return StoredSample(self.key(shard, sample), self._shard(shard)[0].name, picture, note, planes)

    def pictures(self, shard: int, sample: int, planes: tuple[str, ...] = ()) -> tuple[str, bytes, dict[str, bytes]]:
        """Key, picture and the named planes of a sample; nothing else is read. Raises CorruptDataError as `read`."""
        index = self._index(shard)
        places = index.places(sample)
        (suffix,) = places.keys() & _PICTURES
        found = {name: f"{name}.png" for name in planes if f"{name}.png" in places}
        picture, *others = (self._read_member(shard, index.member(places[part])) for part in (suffix, *found.values()))
        return index.key(sample), picture, dict(zip(found, others, strict=True))

    def parts(self, shard: int, sample: int) -> dict[str, bytes]:
        """Members of a sample by their suffixes, checked as in `read`."""
        return {suffix: self._read_member(shard, m) for suffix, m in self._index(shard).members(sample).items()}

    def key(self, shard: int, sample: int) -> str:
        """Key of a sample, without reading the sample."""
        return self._index(shard).key(sample)

    def list_suffixes(self, shard: int, sample: int) -> frozenset[str]:
        """List the suffixes of a sample's members (`jpg`, `json`, `seg.png`) without reading them."""
        return frozenset(self._index(shard).places(sample))

    def fetch_ahead(self, segment: Segment) -> None:
        """Start fetching a segment of a remote shard into the cache; do nothing for a local shard."""
        dataset, _ = self._shard(segment.shard)
        if storage.to_local_path(dataset.uri) is None:
            self._threads(os.getpid()).submit(self._fetch, segment)

    def _fetch(self, segment: Segment) -> None:
        try:
            self._file(segment.shard).fetch(*self._index(segment.shard).span(segment.first, segment.last))
        except Exception as fault:  # noqa: BLE001 - reading the segment later raises its own error
            self.traffic.report(f"nothing was read ahead: {fault}")

    def _read_member(self, shard: int, member: Member) -> bytes:
        """Bytes of a member; a wrong copy in the cache is fetched once more."""
        file = self._file(shard)
        end = member.offset + member.size
        for _ in range(2):
            data: bytes = self._read(shard, lambda: file.read(member.offset, end))
            if len(data) == member.size and isal_zlib.crc32(data) == member.crc32:
                return data
            if isinstance(file, CachedFile):
                file.forget(member.offset, end)
        raise CorruptDataError(
            f"{self._make_uri(shard)} is damaged at member {member.name}: restore the shard or build the dataset again"
        )

    def _read(self, shard: int, call: Callable[[], Result]) -> Result:
        """Result of a call that reads a shard; raises CorruptDataError where the shard is missing or cut."""
        try:
            return call()
        except FileNotFoundError:
            problem = "is missing:"
        except EOFError as fault:
            problem = f"is cut: {fault};"
        raise CorruptDataError(f"{self._make_uri(shard)} {problem} restore the shard or build the dataset again")

    def _read_index(self, shard: int) -> ShardIndex:
        dataset, record = self._shard(shard)
        return ShardIndex.from_table(retry_transient(lambda: read_table(dataset.uri, record), self.traffic.report))

    def _open(self, shard: int) -> Any:
        """Open file of a shard, local or cached."""
        uri, record = self._make_uri(shard), self._shard(shard)[1]
        path = storage.to_local_path(uri)
        if path is not None:
            return self._read(shard, lambda: _LocalFile(path, self.traffic))
        if self._cache is None:
            self._cache = open_default_cache()
        return CachedFile(self._cache, uri, record.sha256, record.size_bytes, self.traffic)

    def _find(self, shard: int) -> tuple[Dataset, ShardRecord]:
        for dataset, rows in self._parts:
            if shard < len(rows):
                return dataset, rows[shard]
            shard -= len(rows)
        raise IndexError(shard)

    def _make_uri(self, shard: int) -> str:
        dataset, record = self._shard(shard)
        return storage.join(dataset.uri, record.file)
