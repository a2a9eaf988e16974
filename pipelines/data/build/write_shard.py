"""Last step of a build: one shard, from the rows of its bucket to a tar, a table and a record.

The tar is a plain webdataset tar with fixed member times, owners and modes, its last member the index `__index__`. The
members of a sample are adjacent, samples in order of their keys; nothing else decides the bytes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

import pyarrow as pa
from pyarrow import compute

from infra import storage
from pipelines.checked_files import table_bytes
from pipelines.data.archive.read import read_photo
from pipelines.data.archive.system_files import is_system_file_reason
from pipelines.data.build.dedup import select_resolved
from pipelines.data.build.eval_masks import make_eval_masks
from pipelines.data.build.roofline import NUM_TIMED, estimate_photo_seconds
from pipelines.data.build.scan import read_unchanged, to_photo
from pipelines.data.build.timing import Cost, Stopwatch
from pipelines.data.commit.workspace import ROWS_AT_A_TIME, Layout, Plan
from pipelines.data.image.mask_files import is_mask_reason
from pipelines.data.image.normalize import name_memory_faults, normalize_photo, normalize_plane
from pipelines.data.shard_tar import ShardWriter
from pipelines.manifest import TABLE_SCHEMA
from pipelines.records import CorruptDataError, Photo, Rejected, Sample, ShardRecord, canonical_json, sha256_hex

_BUFFER_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class ShardId:
    """Identity of a shard, and the facts for its index that are known before it is written."""

    source: str
    layer: int
    split: str
    number: int
    facts: dict[str, Any]
    """Facts from which a lost manifest is rebuilt: `recipe` (the config), `seed` and `num_shards`."""

    @property
    def about(self) -> dict[str, Any]:
        """Facts in the shard's own index."""
        return {"layer": self.layer, "split": self.split, "number": self.number, **self.facts}


def write_shard(plan: Plan, layout: Layout, split: str, number: int) -> tuple[ShardRecord, Cost]:
    """Build and publish one shard and its table, unless its record is there; returns the record and the cost."""
    stopwatch, timed = Stopwatch(), list[Photo]()

    def write() -> dict[str, Any]:
        rows = select_resolved(plan, layout, split, number)
        facts = {"recipe": plan.config.as_json(), "seed": plan.seed, "num_shards": layout.num_shards[split]}
        shard = ShardId(plan.config.source, plan.layer, split, number, facts)
        fill = partial(_write_inputs, plan, rows, stopwatch, timed)
        return asdict(publish_shard(plan.out, plan.at("scratch"), shard, fill))

    with stopwatch.measure("writing"):
        fields, is_new = plan.run_once(f"records/{split}-{number:06d}", write)
    record = ShardRecord(**fields)
    if not is_new:
        return record, Cost(stopwatch.seconds)
    num_photos = record.num_samples + record.num_duplicates + record.num_rejected
    return record, Cost(stopwatch.seconds, num_photos, estimate_photo_seconds(plan, timed, record.num_samples))


def publish_shard(
    out: str, scratch: str, shard: ShardId, write: Callable[[ShardWriter], Iterable[dict[str, Any]]]
) -> ShardRecord:
    """Publish the tar that `write` fills and the table of the rows that it yields, both named by their content.

    `scratch`: the folder in which a local tar grows.
    """
    with storage.scratch_folder(scratch) as folder:
        path = folder / "shard.tar"
        with path.open("wb", buffering=_BUFFER_BYTES) as stream:
            writer = ShardWriter(stream)
            table = make_table(write(writer))
            writer.close(shard.about)
        sha256 = writer.sha256.hexdigest()
        file = f"{shard.split}/{shard.source}-{shard.number:06d}-{sha256[:12]}.tar"
        storage.publish_file(storage.join(out, file), path)
    return publish_table(out, shard.about, file, sha256, writer.size_bytes, table)


def make_table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Table of a shard; few rows at a time are Python objects, which take ten times the memory."""
    waiting, batches = iter(rows), []
    while some := list(islice(waiting, ROWS_AT_A_TIME)):
        batches.append(pa.RecordBatch.from_pylist(some, TABLE_SCHEMA))
    return pa.Table.from_batches(batches, TABLE_SCHEMA).combine_chunks()  # one chunk, as its bytes depend on them


def publish_table(
    out: str, about: dict[str, Any], file: str, sha256: str, size_bytes: int, table: pa.Table
) -> ShardRecord:
    """Publish the table of a published shard; returns the shard's record. `about`: the facts in its index.

    The table names its shard: its rows alone could be those of another shard, or of an older one.
    """
    # Publish the table under the digest of its content.
    data = table_bytes(table, make_table_facts(about["layer"], sha256))
    table_sha256 = sha256_hex(data)
    name = f"tables/{about['split']}-{about['number']:06d}-{table_sha256[:12]}.parquet"
    storage.publish(storage.join(out, name), data)
    # Count the outcomes for the record.
    outcomes = Counter(table["outcome"].to_pylist())
    reasons = Counter(table.filter(compute.equal(table["outcome"], "rejected"))["reason"].to_pylist())
    refusals = table["planes"].combine_chunks().flatten().field("reason")
    return ShardRecord(
        split=about["split"], number=about["number"], layer=about["layer"],
        file=file, size_bytes=size_bytes, sha256=sha256, table=name, table_sha256=table_sha256,
        num_samples=outcomes["written"], num_duplicates=outcomes["duplicate"],
        num_rejected=outcomes["rejected"], num_removed=outcomes["removed"],
        num_planes=refusals.null_count, num_planes_rejected=len(refusals) - refusals.null_count,
        num_masks=sum(n for reason, n in reasons.items() if is_mask_reason(reason)),
        num_system_files=sum(n for reason, n in reasons.items() if is_system_file_reason(reason)),
    )  # fmt: skip


def make_table_facts(layer: int, shard_sha256: str) -> dict[str, str]:
    """Facts that the table of a shard holds beside its rows."""
    return {"lacuna.layer": str(layer), "lacuna.shard_sha256": shard_sha256}


def _write_inputs(
    plan: Plan, rows: Iterable[dict[str, Any]], stopwatch: Stopwatch, timed: list[Photo], writer: ShardWriter
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table; the first photos that are written go into `timed`."""
    for row in rows:
        result = _write_input(plan, writer, row, stopwatch)
        if result["outcome"] == "written" and len(timed) < NUM_TIMED:
            timed.append(to_photo(row))
        yield result


def _write_input(plan: Plan, writer: ShardWriter, row: dict[str, Any], stopwatch: Stopwatch) -> dict[str, Any]:
    """Write the sample of one input if it becomes one; returns its row of the table."""
    common = {
        "key": row["key"],
        "source": row["path"],
        "source_sha256": row["sha256"],
        "content_sha256": row["content_sha256"],
        "label": row["label"],
    }
    # Rejected inputs and duplicates only have a row.
    if row["refusal"] is not None:
        return common | {"outcome": "rejected", "reason": row["refusal"]}
    if row["duplicate_of"] is not None:
        what = "pixels" if row["content_sha256"] else "bytes"
        return common | {"outcome": "duplicate", "reason": f"same {what} as {row['duplicate_of']}"}
    # Normalize the photo and write its sample.
    photo = to_photo(row)
    with stopwatch.measure("reading"):
        raw = read_unchanged(plan, photo, row["crc32"])
    with name_memory_faults(photo.path):
        with stopwatch.measure("cleaning"):
            sample = normalize_photo(raw, plan.config)
        if isinstance(sample, Rejected):
            return common | {"outcome": "rejected", "reason": sample.reason}
        return common | {"outcome": "written"} | _write_sample(plan, writer, row, photo, raw, sample)


def _write_sample(
    plan: Plan, writer: ShardWriter, row: dict[str, Any], photo: Photo, raw: bytes, sample: Sample
) -> dict[str, Any]:
    """Write the sample of a photo; returns the columns that it adds to its row."""
    # Gather the planes and masks of the photo, and its note.
    key = row["key"]
    masks, mask_pictures = make_eval_masks(plan, key) if photo.split in plan.config.mask_splits else ([], {})
    planes, about_planes = _make_planes(plan, photo, raw)
    described = {"width_px": sample.width_px, "height_px": sample.height_px}
    note = described | {
        "key": key,
        "source": photo.path,
        "source_sha256": row["sha256"],
        "label": photo.label,
        "normalised": sample.normalised,
        "masks": masks,
        **({"planes": about_planes} if about_planes else {}),
        **({"content_sha256": row["content_sha256"]} if row["content_sha256"] else {}),
    }
    # Write all members.
    parts = {sample.suffix: sample.picture, "json": canonical_json(note), **planes, **mask_pictures}
    known = {} if sample.normalised else {sample.suffix: (row["sha256"], row["crc32"])}
    members, digest = writer.add_sample(key, parts, known)
    return described | {
        "members": [vars(m) for m in members],
        "sample_sha256": digest,
        "masks": masks,
        "planes": make_plane_rows(about_planes),
    }


def make_plane_rows(about: dict[str, dict[str, str]]) -> list[dict[str, str | None]]:
    """Rows of the table for the planes in a sample's note."""
    return [{"name": name, "reason": facts.get("rejected")} for name, facts in about.items()]


def _make_planes(plan: Plan, photo: Photo, raw: bytes) -> tuple[dict[str, bytes], dict[str, dict[str, str]]]:
    """Members of the planes that the config stores, and the note of each: its source or refusal."""
    members, about = {}, {}
    for plane in (plane for plane in photo.planes if plane.name in plan.config.planes):
        try:
            if plane.refusal is not None:
                raise CorruptDataError(plane.refusal)
            data = read_photo(plan.root, plane)
            png = normalize_plane(data, raw, plan.config)
        except CorruptDataError as fault:
            png = Rejected(str(fault))
        if isinstance(png, Rejected):
            about[plane.name] = {"source": plane.path, "rejected": png.reason}
        else:
            members[f"{plane.name}.png"] = png
            about[plane.name] = {"source": plane.path, "source_sha256": sha256_hex(data)}
    return members, about
