"""Third to fifth step of a build: who owns a key, and which photos have the same bytes.

Keys first: of the files that share one, the first path owns it and the others are rejected. Then contents: of the
owners with the same bytes the smallest key is kept, the others are duplicates of it. What an earlier layer holds, or
held before it was removed, comes before all of that. All are joins over buckets of digests, a bucket a task, so that
no process holds the dataset.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from pyarrow import compute

from pipelines.data.effort import Laps, Seconds
from pipelines.data.listing import SCANNED, scanned_file
from pipelines.data.workspace import (
    Layout,
    Plan,
    parts_of,
    read_bucket,
    read_rows,
    read_stored,
    share_of,
    write_buckets,
    write_rows,
)
from pipelines.manifest import open_dataset, read_table

_CONTENT = pa.schema([("sha256", pa.string()), ("key", pa.string()), ("key_bucket", pa.int64()), ("new", pa.bool_())])
_REPEAT = pa.schema([("key", pa.string()), ("first_key", pa.string())])


def settle_keys(plan: Plan, layout: Layout, bucket: int) -> Seconds:
    """Writes the inputs of a bucket in order, refused where another owns their key, and what the owners contain."""

    def settle() -> dict[str, Any]:
        earlier = dict(_earlier(plan, layout, bucket))
        scans = (scanned_file(plan, scan) for scan in range(layout.num_scans))
        rows = sorted(read_bucket(scans, bucket), key=_order)
        owners = list(_settle(rows, earlier))
        contents: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for key, sha256, new in [*((key, content, False) for key, (_, content) in earlier.items()), *owners]:
            content = {"sha256": sha256, "key": key, "key_bucket": bucket, "new": new}
            contents[share_of(bytes.fromhex(sha256), layout.num_digest_buckets)].append(content)
        write_buckets(plan.at("contents", f"{bucket:06d}.buckets"), contents, layout.num_digest_buckets, _CONTENT)
        write_rows(plan.at("keyed", f"{bucket:06d}.arrow"), rows, SCANNED)
        return {"num_inputs": len(rows)}

    return _timed(plan, f"keyed/{bucket:06d}", settle)


def _order(row: dict[str, Any]) -> tuple[str, str, int]:
    """By key, then by path; an archive may hold a path twice."""
    return row["key"] or "", row["path"], row["place"]["offset"] if row["place"] else 0


def _earlier(plan: Plan, layout: Layout, bucket: int) -> Iterator[tuple[str, tuple[str, str]]]:
    """(key, digests of source and content) of the bucket's photos that earlier layers hold or held."""
    if plan.layer == 0:
        return
    dataset = open_dataset(plan.out)
    for shard in dataset.shards:
        count = dataset.num_shards(shard)
        if bucket in parts_of(shard.number, count, layout.num_key_buckets):
            for row in read_table(dataset.uri, shard).to_pylist():
                if row["outcome"] in ("written", "removed") and _bucket_of(row["key"], layout) == bucket:
                    yield row["key"], (row["source_sha256"], row["content_sha256"] or row["source_sha256"])


def _bucket_of(key: str, layout: Layout) -> int:
    return share_of(hashlib.sha256(key.encode()).digest(), layout.num_key_buckets)


def _settle(rows: list[dict[str, Any]], earlier: dict[str, tuple[str, str]]) -> Iterator[tuple[str, str, bool]]:
    """(key, digest of the content, new) of the rows that own their key; others are refused or known to be there."""
    owned: set[str] = set()
    for row in (row for row in rows if row["refusal"] is None):
        key = row["key"]
        if key in earlier and earlier[key][0] == row["sha256"]:
            row["duplicate_of"] = key
        elif key in owned or key in earlier:
            row["refusal"] = f"key collision: {key}"
        else:
            owned.add(key)
            yield key, row["content_sha256"] or row["sha256"], True


def find_duplicates(plan: Plan, layout: Layout, digest_bucket: int) -> Seconds:
    """Writes, for each bucket of keys, those whose content in this bucket of digests another key has too."""

    def find() -> dict[str, Any]:
        by_content: dict[str, list[dict[str, Any]]] = defaultdict(list)
        buckets = (plan.at("contents", f"{b:06d}.buckets") for b in range(layout.num_key_buckets))
        for row in read_bucket(buckets, digest_bucket):
            by_content[row["sha256"]].append(row)
        repeats: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for rows in by_content.values():
            first, *others = sorted(rows, key=lambda row: (row["new"], row["key"]))
            for row in (row for row in others if row["new"]):
                repeats[row["key_bucket"]].append({"key": row["key"], "first_key": first["key"]})
        write_buckets(plan.at("repeats", f"{digest_bucket:06d}.buckets"), repeats, layout.num_key_buckets, _REPEAT)
        return {"num_duplicates": sum(map(len, repeats.values()))}

    return _timed(plan, f"repeats/{digest_bucket:06d}", find)


def _timed(plan: Plan, marker: str, step: Callable[[], dict[str, Any]]) -> Seconds:
    laps = Laps()
    plan.once(marker, step)
    laps.end("sorting")
    return laps.seconds


def mark_duplicates(plan: Plan, layout: Layout, bucket: int) -> Seconds:
    """Writes the inputs of a bucket of keys once more, with what `find_duplicates` found of them in all buckets.

    A step of its own because a bucket may hold the inputs of many shards, and the finds lie in many files.
    """

    def mark() -> dict[str, Any]:
        repeats = (plan.at("repeats", f"{b:06d}.buckets") for b in range(layout.num_digest_buckets))
        first_keys = {row["key"]: row["first_key"] for row in read_bucket(repeats, bucket)}
        rows = read_rows(plan.at("keyed", f"{bucket:06d}.arrow"))
        for row in rows:
            if row["refusal"] is None and row["duplicate_of"] is None:
                row["duplicate_of"] = first_keys.get(row["key"])
        write_rows(plan.at("settled", f"{bucket:06d}.arrow"), rows, SCANNED)
        return {"num_duplicates": len(first_keys)}

    return _timed(plan, f"settled/{bucket:06d}", mark)


def settled_inputs(plan: Plan, layout: Layout, split: str, number: int) -> list[dict[str, Any]]:
    """The inputs of a shard in order of (key, path); `refusal` where rejected, `duplicate_of` where a repeat."""
    rows: list[dict[str, Any]] = []
    for bucket in layout.key_buckets(split, number):
        table = read_stored(plan.at("settled", f"{bucket:06d}.arrow"))
        own = compute.and_(compute.equal(table["split"], split), compute.equal(table["number"], number))
        rows += table.filter(own).to_pylist()  # before it is Python's: a bucket may hold the inputs of many shards
    return sorted(rows, key=_order)
