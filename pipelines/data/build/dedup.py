"""Third to fifth step of a build: the owner of each key, and photos with the same bytes.

Keys first: of the files that share one, the first path that becomes a sample owns it and the others are rejected. Then
contents: of the owners with the same bytes the smallest key stays, the others are duplicates of it. Photos that an
earlier layer holds, or held before they were removed, come before all others. All steps are joins over buckets of
digests, a bucket a task, so that no process holds the dataset.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute

from pipelines.data.build.scan import SCANNED, locate_scan
from pipelines.data.build.timing import Seconds, Stopwatch
from pipelines.data.build.twins import find_twin_refusals, is_key_candidate
from pipelines.data.commit.workspace import (
    Layout,
    Plan,
    fields_of,
    find_part,
    find_parts,
    read_bucket,
    read_stored_table,
    rows_of,
    write_buckets,
    write_table,
)
from pipelines.manifest import Dataset, read_table
from pipelines.records import ShardRecord

_CONTENT = pa.schema([("sha256", pa.string()), ("key", pa.string()), ("key_bucket", pa.int64()), ("new", pa.bool_())])
_REPEAT = pa.schema([("key", pa.string()), ("first_key", pa.string())])


def group_earlier_shards(base: Dataset | None, layout: Layout) -> list[tuple[ShardRecord, ...]]:
    """For each bucket of keys, the committed shards whose inputs may lie in it."""
    if base is None:
        return [()] * layout.num_key_buckets
    met: list[list[ShardRecord]] = [[] for _ in range(layout.num_key_buckets)]
    for shard in base.shards:
        for bucket in find_parts(shard.number, base.num_shards(shard), layout.num_key_buckets):
            met[bucket].append(shard)
    return [tuple(shards) for shards in met]


def resolve_keys(plan: Plan, layout: Layout, bucket: int, earlier: tuple[ShardRecord, ...] = ()) -> Seconds:
    """Write the inputs of a bucket in order, refused where another owns their key, and the digests of the owners.

    `earlier`: the committed shards that may hold such inputs.
    """

    def resolve() -> dict[str, Any]:
        # Gather the bucket from all scans, in order of keys, and give each key an owner.
        known = dict(_earlier_photos(plan, layout, bucket, earlier))
        scans = (locate_scan(plan, scan) for scan in range(layout.num_scans))
        table = _sort_rows(read_bucket(scans, bucket, SCANNED), "key", "path", "offset")
        table, is_owner = _assign_keys(_reject_twins(plan, table, known), known)
        # Spread the digests of the owners over buckets of their own.
        before, owners = [content for _, content in known.values()], table.filter(is_owner)
        digests, size = compute.coalesce(owners["content_sha256"], owners["sha256"]), owners.num_rows
        there = pa.table([before, list(known), [bucket] * len(known), [False] * len(known)], _CONTENT)
        new = pa.table([digests, owners["key"], [bucket] * size, [True] * size], _CONTENT)
        contents = pa.concat_tables([there, new])
        count = layout.num_digest_buckets
        buckets = array("q", (find_part(bytes.fromhex(sha256), count) for (sha256,) in fields_of(contents, "sha256")))
        write_buckets(plan.at("contents", f"{bucket:06d}.buckets"), contents, buckets, count)
        write_table(plan.at("keyed", f"{bucket:06d}.arrow"), table)
        return {"num_inputs": table.num_rows}

    return _time_step(plan, f"keyed/{bucket:06d}", resolve)


def _sort_rows(table: pa.Table, *names: str) -> pa.Table:
    """The rows sorted by these fields, nulls first; `offset` is in the archive, which may hold a path twice."""
    columns = {name: table[name] for name in names if name != "offset"}
    if "offset" in names:
        columns["offset"] = compute.struct_field(table["place"], "offset")
    keys = [(name, "ascending", "at_start") for name in names]
    return table.take(compute.sort_indices(pa.table(columns), sort_keys=keys))


def _replace_column(table: pa.Table, name: str, values: Sequence[Any]) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))


def _earlier_photos(
    plan: Plan, layout: Layout, bucket: int, shards: tuple[ShardRecord, ...]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield (key, digests of source and content) of the bucket's photos that the committed shards hold or held."""
    for shard in shards:
        rows = fields_of(read_table(plan.out, shard), "outcome", "key", "source_sha256", "content_sha256")
        for outcome, key, source, content in rows:
            if (
                outcome in ("written", "removed")
                and find_part(hashlib.sha256(key.encode()).digest(), layout.num_key_buckets) == bucket
            ):
                yield key, (source, content or source)


def _reject_twins(plan: Plan, table: pa.Table, known: Mapping[str, Any]) -> pa.Table:
    """The rows, in order of their keys; files that share a new key are refused unless they can become its sample."""
    refusals = table["refusal"].to_pylist()
    rows = enumerate(fields_of(table, "key", "path"))
    photos = ((key, at) for at, (key, path) in rows if key not in known and is_key_candidate(path, refusals[at]))
    for _, several in groupby(photos, key=itemgetter(0)):
        places = [at for _, at in several]
        if len(places) > 1 and any(refusals[at] is None for at in places):
            reasons = find_twin_refusals(plan, table.take(places).to_pylist())
            for at, reason in zip(places, reasons, strict=True):
                refusals[at] = reason
    return _replace_column(table, "refusal", refusals)


def _assign_keys(table: pa.Table, known: Mapping[str, tuple[str, str]]) -> tuple[pa.Table, pa.Array]:
    """The rows, in order of their keys, with collisions refused and known photos marked; and which own their key."""
    refusals, repeats, owners, last = [], [], array("b"), None
    for key, sha256, refusal in fields_of(table, "key", "sha256", "refusal"):
        is_known = refusal is None and key in known and known[key][0] == sha256
        is_taken = refusal is None and not is_known and (key in known or key == last)
        owners.append(refusal is None and not is_known and not is_taken)
        last = key if owners[-1] else last
        refusals.append(f"key collision: {key}" if is_taken else refusal)
        repeats.append(key if is_known else None)
    table = _replace_column(_replace_column(table, "refusal", refusals), "duplicate_of", repeats)
    return table, pa.array(np.asarray(owners, bool))


def find_duplicates(plan: Plan, layout: Layout, digest_bucket: int) -> Seconds:
    """Write, for each bucket of keys, those whose content in this bucket of digests belongs to an earlier key too."""

    def find() -> dict[str, Any]:
        files = (plan.at("contents", f"{b:06d}.buckets") for b in range(layout.num_key_buckets))
        table = _sort_rows(read_bucket(files, digest_bucket, _CONTENT), "sha256", "new", "key")
        keys, first_keys, buckets, first = [], [], array("q"), ("", "")
        for sha256, key, key_bucket, new in fields_of(table, *_CONTENT.names):
            if sha256 != first[0]:
                first = sha256, key
            elif new:
                keys.append(key)
                first_keys.append(first[1])
                buckets.append(key_bucket)
        repeats = pa.table([keys, first_keys], _REPEAT)
        write_buckets(plan.at("repeats", f"{digest_bucket:06d}.buckets"), repeats, buckets, layout.num_key_buckets)
        return {"num_duplicates": len(keys)}

    return _time_step(plan, f"repeats/{digest_bucket:06d}", find)


def _time_step(plan: Plan, marker: str, step: Callable[[], dict[str, Any]]) -> Seconds:
    stopwatch = Stopwatch()
    with stopwatch.measure("sorting"):
        plan.run_once(marker, step)
    return stopwatch.seconds


def mark_duplicates(plan: Plan, layout: Layout, bucket: int) -> Seconds:
    """Write the inputs of a bucket of keys by their shards, with all duplicates that `find_duplicates` found of them.

    A bucket may hold the inputs of many shards, and its duplicates lie in many files: this step gathers them once.
    """

    def mark() -> dict[str, Any]:
        files = (plan.at("repeats", f"{b:06d}.buckets") for b in range(layout.num_digest_buckets))
        first_keys = dict(fields_of(read_bucket(files, bucket, _REPEAT), "key", "first_key"))
        table = read_stored_table(plan.at("keyed", f"{bucket:06d}.arrow"))
        rows = fields_of(table, "key", "refusal", "duplicate_of")
        repeats = [repeat or (first_keys.get(key) if refusal is None else None) for key, refusal, repeat in rows]
        numbers = {shard: number for number, shard in enumerate(layout.list_shards(bucket))}
        shards = array("q", (numbers[shard] for shard in fields_of(table, "split", "number")))
        resolved = _replace_column(table, "duplicate_of", repeats)
        write_buckets(plan.at("resolved", f"{bucket:06d}.buckets"), resolved, shards, len(numbers))
        return {"num_duplicates": len(first_keys)}

    return _time_step(plan, f"resolved/{bucket:06d}", mark)


def select_resolved(plan: Plan, layout: Layout, split: str, number: int) -> Iterator[dict[str, Any]]:
    """Yield the inputs of a shard in order of (key, path); `refusal` where rejected, `duplicate_of` where a repeat."""
    parts = []
    for bucket in find_parts(number, layout.num_shards[split], layout.num_key_buckets):
        file, place = plan.at("resolved", f"{bucket:06d}.buckets"), layout.list_shards(bucket).index((split, number))
        parts.append(read_bucket([file], place, SCANNED))
    yield from rows_of(_sort_rows(pa.concat_tables(parts), "key", "path", "offset"))
