"""The folder of a build in progress: `<out>/.build`, gone once the dataset is committed.

Every step writes its files first and a small JSON marker last; a step whose marker is there is not done again. So a
killed build goes on where it stopped, and no step ever reads what another has written by half.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from infra import storage
from pipelines.data.recipe import ShardRecipe
from pipelines.manifest import read_parquet, table_bytes
from pipelines.records import canonical_json

FOLDER: Final = ".build"


@dataclass(frozen=True)
class Plan:
    """All that a task of a build needs to know; small, and the same for every task."""

    root: str
    out: str
    recipe: ShardRecipe
    seed: int

    def at(self, *parts: str) -> str:
        """The URI of something in the workspace."""
        return storage.join(self.out, FOLDER, *parts)

    def once(self, marker: str, step: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Runs the step unless its marker is there; returns what the marker says."""
        uri = self.at(f"{marker}.json")
        if not storage.exists(uri):
            storage.publish(uri, canonical_json(step()))
        return dict(json.loads(storage.read_bytes(uri)))


@dataclass(frozen=True)
class Layout:
    """How photos spread over shards and buckets; decided once, from the listing. All counts are powers of two."""

    num_files: int
    num_chunks: int
    num_shards: dict[str, int]
    """Per split."""
    num_digest_buckets: int

    @property
    def num_key_buckets(self) -> int:
        """Buckets of keys, over all splits."""
        return min(256, max(self.num_shards.values()))

    def key_buckets(self, split: str, number: int) -> range:
        """The buckets that hold the inputs of a shard: leading bits of the key's digest, as its number is."""
        buckets, shards = self.num_key_buckets, self.num_shards[split]
        first = number * buckets // shards
        return range(first, max(first + 1, (number + 1) * buckets // shards))


def share_of(digest: bytes, count: int) -> int:
    """Which of `count` equal parts of all digests this one lies in."""
    return int.from_bytes(digest[:8], "big") * count >> 64


def write_rows(uri: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Publishes rows as one Parquet file."""
    storage.publish(uri, table_bytes(pa.Table.from_pylist(rows, schema)))


def read_rows(uri: str) -> list[dict[str, Any]]:
    """The rows of a file that must be there."""
    return [dict(row) for row in read_parquet(storage.read_bytes(uri)).to_pylist()]


def read_rows_of_any(uris: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of all those files that are there: a bucket to which a task had nothing to add is not written."""
    return [row for uri in uris if storage.exists(uri) for row in read_rows(uri)]
