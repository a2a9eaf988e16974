"""Third step of a build: photos with the same bytes. The smallest key is kept, all others are duplicates of it.

A join by content digest, one bucket of digests a task, so that no process holds the dataset.
"""

from collections import defaultdict
from typing import Any

import pyarrow as pa

from pipelines.data.workspace import Layout, Plan, read_rows, write_rows

_DUPLICATE = pa.schema([("path", pa.string()), ("first_key", pa.string())])


def find_duplicates(plan: Plan, layout: Layout, prefix: str) -> None:
    """Writes, for each bucket of shards, the paths in this digest bucket that repeat another photo's bytes."""

    def find() -> dict[str, Any]:
        chunks = (plan.at("digests", prefix, f"{chunk:06d}.parquet") for chunk in range(layout.num_chunks))
        by_content: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in read_rows(chunks):
            by_content[row["sha256"]].append(row)
        repeats: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for rows in by_content.values():
            first, *others = sorted(rows, key=lambda row: (row["key"], row["path"]))
            for row in others:
                repeats[row["bucket"]].append({"path": row["path"], "first_key": first["key"]})
        for bucket, rows in repeats.items():
            write_rows(plan.at("duplicates", bucket, f"{prefix}.parquet"), rows, _DUPLICATE)
        return {"num_duplicates": sum(map(len, repeats.values()))}

    plan.once(f"settled/{prefix}", find)


def duplicates_in(plan: Plan, layout: Layout, bucket: str) -> dict[str, str]:
    """Path -> key of the photo that it repeats, for one bucket of shards."""
    prefixes = (plan.at("duplicates", bucket, f"{i:06d}.parquet") for i in range(layout.num_digest_buckets))
    return {row["path"]: row["first_key"] for row in read_rows(prefixes)}
