"""Third and fourth step of a build: who owns a key, and which photos have the same bytes.

Keys first: of the files that share one, the first path owns it and the others are rejected. Then contents: of the
owners with the same bytes the smallest key is kept, the others are duplicates of it. Both are joins over buckets of
digests, a bucket a task, so that no process holds the dataset.
"""

from collections import defaultdict
from typing import Any

import pyarrow as pa

from pipelines.data.listing import SCANNED
from pipelines.data.workspace import Layout, Plan, read_rows, read_rows_of_any, share_of, write_rows

_CONTENT = pa.schema([("sha256", pa.string()), ("key", pa.string()), ("key_bucket", pa.int64())])
_REPEAT = pa.schema([("key", pa.string()), ("first_key", pa.string())])


def settle_keys(plan: Plan, layout: Layout, bucket: int) -> None:
    """Writes the inputs of a bucket in order, rejected where another owns their key, and what the owners contain."""

    def settle() -> dict[str, Any]:
        chunks = (plan.at("scanned", f"{bucket:03d}", f"{chunk:06d}.parquet") for chunk in range(layout.num_chunks))
        rows = sorted(read_rows_of_any(chunks), key=lambda row: (row["key"] or "", row["path"]))
        owned: set[str] = set()
        contents: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in (row for row in rows if row["reason"] is None):
            if row["key"] in owned:
                row["reason"] = f"key collision: {row['key']}"
                continue
            owned.add(row["key"])
            content = {"sha256": row["sha256"], "key": row["key"], "key_bucket": bucket}
            contents[share_of(bytes.fromhex(row["sha256"]), layout.num_digest_buckets)].append(content)
        for digest_bucket, found in contents.items():
            write_rows(plan.at("contents", f"{digest_bucket:06d}", f"{bucket:03d}.parquet"), found, _CONTENT)
        write_rows(plan.at("keyed", f"{bucket:03d}.parquet"), rows, SCANNED)
        return {"num_inputs": len(rows)}

    plan.once(f"keyed/{bucket:03d}", settle)


def find_duplicates(plan: Plan, layout: Layout, digest_bucket: int) -> None:
    """Writes, for each bucket of keys, those whose content in this bucket of digests another key has too."""

    def find() -> dict[str, Any]:
        name = f"{digest_bucket:06d}"
        by_content: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in read_rows_of_any(
            plan.at("contents", name, f"{b:03d}.parquet") for b in range(layout.num_key_buckets)
        ):
            by_content[row["sha256"]].append(row)
        repeats: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for rows in by_content.values():
            first, *others = sorted(rows, key=lambda row: row["key"])
            for row in others:
                repeats[row["key_bucket"]].append({"key": row["key"], "first_key": first["key"]})
        for bucket, found in repeats.items():
            write_rows(plan.at("repeats", f"{bucket:03d}", f"{name}.parquet"), found, _REPEAT)
        return {"num_duplicates": sum(map(len, repeats.values()))}

    plan.once(f"repeats/{digest_bucket:06d}", find)


def settled_inputs(plan: Plan, layout: Layout, split: str, number: int) -> list[dict[str, Any]]:
    """The inputs of a shard in order of (key, path); `reason` where rejected, `duplicate_of` where a repeat."""
    names = [f"{bucket:03d}" for bucket in layout.key_buckets(split, number)]
    prefixes = [f"{i:06d}.parquet" for i in range(layout.num_digest_buckets)]
    repeats = read_rows_of_any(plan.at("repeats", name, prefix) for name in names for prefix in prefixes)
    first_keys = {row["key"]: row["first_key"] for row in repeats}
    rows = [row for name in names for row in read_rows(plan.at("keyed", f"{name}.parquet"))]
    own = [row for row in rows if row["split"] == split and row["number"] == number]
    own.sort(key=lambda row: (row["key"] or "", row["path"]))
    return [row | {"duplicate_of": first_keys.get(row["key"]) if row["reason"] is None else None} for row in own]
