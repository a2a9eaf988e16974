"""Samples out of shards, by place: positioned reads of exactly the sample's bytes, each checked by its CRC32.

In: shards of committed datasets and (shard, sample) places. Out: `Stored` samples, or `Damaged` naming file and key.
A shard that is not on a local disk is first copied whole into a cache folder named by its digest: never a request
per sample.
"""

import json
import os
import tempfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from infra import storage
from pipelines.manifest import Dataset, read_table
from pipelines.records import Damaged, ShardRecord, sha256_hex


@dataclass(frozen=True)
class Stored:
    """A sample as it lies in its shard."""

    key: str
    dataset: str
    picture: bytes
    note: dict[str, Any]
    """The sample's JSON: source, size, what was normalised, mask recipes."""
    planes: dict[str, bytes]
    """Further pictures by name: PNGs of the planes and masks that are stored with it."""


def mask_plane(number: int) -> str:
    """The plane that holds the mask of this number, from 0 on, if it is stored."""
    return f"mask{number + 1 if number else ''}"


class ShardReader:
    """The samples of one split of some datasets, by (shard, sample); shards count through all datasets in order."""

    def __init__(self, datasets: tuple[Dataset, ...], split: str) -> None:
        self._shards = [(dataset, shard) for dataset in datasets for shard in dataset.split(split)]
        self._rows = lru_cache(maxsize=64)(self._read_rows)
        self._file = lru_cache(maxsize=64)(self._open)

    @property
    def counts(self) -> tuple[int, ...]:
        """Samples per shard."""
        return tuple(shard.num_samples for _, shard in self._shards)

    def read(self, shard: int, sample: int) -> Stored:
        """One sample, its members checked against the manifest; raises Damaged where a byte differs."""
        parts = self.parts(shard, sample)
        note = json.loads(parts.pop("json"))
        (picture,) = (parts.pop(suffix) for suffix in list(parts) if "." not in suffix)
        planes = {suffix.removesuffix(".png"): data for suffix, data in parts.items()}
        return Stored(self.key(shard, sample), self._shards[shard][0].name, picture, note, planes)

    def parts(self, shard: int, sample: int) -> dict[str, bytes]:
        """The members of a sample by their suffixes, checked like `read`."""
        record = self._shards[shard][1]
        members = self._rows(shard)[sample]["members"]
        return {member["name"].partition(".")[2]: self._member(shard, record, member) for member in members}

    def key(self, shard: int, sample: int) -> str:
        """The key of a sample, without reading it."""
        return str(self._rows(shard)[sample]["key"])

    def _member(self, shard: int, record: ShardRecord, member: dict[str, Any]) -> bytes:
        data = os.pread(self._file(shard).fileno(), member["size"], member["offset"])
        if len(data) != member["size"] or zlib.crc32(data) != member["crc32"]:
            uri = storage.join(self._shards[shard][0].uri, record.file)
            raise Damaged(f"{uri} is damaged at member {member['name']}: restore the shard or build the dataset again")
        return data

    def _read_rows(self, shard: int) -> list[dict[str, Any]]:
        dataset, record = self._shards[shard]
        rows = read_table(dataset.uri, record).to_pylist()
        return [row for row in rows if row["outcome"] == "written"]

    def _open(self, shard: int) -> Any:
        dataset, record = self._shards[shard]
        uri = storage.join(dataset.uri, record.file)
        path = storage.local_path(uri) or _cached(uri, record)
        try:
            return path.open("rb", buffering=0)
        except FileNotFoundError:
            raise Damaged(f"{uri} is missing: restore the shard or build the dataset again") from None


def _cached(uri: str, record: ShardRecord) -> Path:
    """A local copy of a remote shard, shared by all processes of this user on this machine.

    It is named by what it contains: a damaged shard never takes a whole one's place, and its members' CRC32 tell.
    """
    folder = Path(tempfile.gettempdir()) / f"lacuna-{os.getuid()}"
    path = folder / f"{record.sha256}.tar"
    if path.exists() and path.stat().st_size == record.size_bytes:
        return path
    try:
        data = storage.read_bytes(uri)
    except FileNotFoundError:
        raise Damaged(f"{uri} is missing: restore the shard or build the dataset again") from None
    path = folder / f"{sha256_hex(data)}.tar"
    storage.publish(str(path), data)
    return path
