"""Last step of a build: one shard, from the rows of its bucket to a tar, a table and a record.

The tar is a plain webdataset tar of fixed member times, owners and modes, its last member the index `__index__`. A
sample's members stand together, samples in the order of their keys; nothing else decides the bytes.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from infra import storage
from pipelines.data.cleaning import clean
from pipelines.data.recipe import ShardRecipe
from pipelines.data.settling import settled_inputs
from pipelines.data.tar import ShardWriter
from pipelines.data.workspace import Layout, Plan
from pipelines.manifest import TABLE_SCHEMA, table_bytes
from pipelines.masks.recipe import recipe_for
from pipelines.records import Rejected, Sample, ShardRecord, canonical_json, sha256_hex

_BUFFER_BYTES: Final = 1 << 20


def write_shard(plan: Plan, layout: Layout, split: str, number: int) -> ShardRecord:
    """Builds and publishes one shard and its table, unless its record says that it is done."""

    def write() -> dict[str, Any]:
        with storage.scratch_folder(plan.at("scratch")) as folder:
            return asdict(_build_shard(plan, layout, split, number, folder / "shard.tar"))

    return ShardRecord(**plan.once(f"records/{split}-{number:06d}", write))


def _build_shard(plan: Plan, layout: Layout, split: str, number: int, path: Path) -> ShardRecord:
    with path.open("wb", buffering=_BUFFER_BYTES) as stream:
        writer = ShardWriter(stream)
        rows = [_write_input(plan, writer, row) for row in settled_inputs(plan, layout, split, number)]
        writer.close()
    sha256, table = writer.sha256.hexdigest(), table_bytes(pa.Table.from_pylist(rows, TABLE_SCHEMA))
    table_sha256 = sha256_hex(table)
    file = f"{split}/{plan.recipe.source}-{number:06d}-{sha256[:12]}.tar"
    table_file = f"tables/{split}-{number:06d}-{table_sha256[:12]}.parquet"
    storage.publish_file(storage.join(plan.out, file), path)
    storage.publish(storage.join(plan.out, table_file), table)
    written, duplicates, rejected = (
        sum(row["outcome"] == o for row in rows) for o in ("written", "duplicate", "rejected")
    )
    place: dict[str, Any] = {"split": split, "number": number, "file": file, "table": table_file}
    sizes: dict[str, Any] = {"num_samples": written, "num_duplicates": duplicates, "num_rejected": rejected}
    return ShardRecord(**place, **sizes, size_bytes=writer.size_bytes, sha256=sha256, table_sha256=table_sha256)


def _write_input(plan: Plan, writer: ShardWriter, row: dict[str, Any]) -> dict[str, Any]:
    """Writes the sample of one input if it becomes one; returns its row of the table."""
    common = {"key": row["key"], "source": row["path"], "source_sha256": row["sha256"], "label": row["label"]}
    if row["reason"] is not None:
        return common | {"outcome": "rejected", "reason": row["reason"]}
    if row["duplicate_of"] is not None:
        return common | {"outcome": "duplicate", "reason": f"same bytes as {row['duplicate_of']}"}
    raw = storage.read_below(plan.root, row["path"])
    if sha256_hex(raw) != row["sha256"]:
        raise OSError(f"{row['path']} under {plan.root} changed while it was read: leave the source alone, then retry")
    sample = clean(raw, plan.recipe)
    if isinstance(sample, Rejected):
        return common | {"outcome": "rejected", "reason": sample.reason}
    return common | {"outcome": "written"} | _write_sample(plan, writer, row, sample)


def _write_sample(plan: Plan, writer: ShardWriter, row: dict[str, Any], sample: Sample) -> dict[str, Any]:
    masks = fixed_masks(plan.recipe, plan.seed, row["key"]) if row["split"] != "train" else []
    described = {"width_px": sample.width_px, "height_px": sample.height_px}
    note = described | {
        "key": row["key"],
        "source": row["path"],
        "source_sha256": row["sha256"],
        "label": row["label"],
        "normalised": sample.normalised,
        "masks": masks,
    }
    parts = {sample.suffix: sample.picture, "json": canonical_json(note)}
    known = {} if sample.normalised else {sample.suffix: row["sha256"]}
    members, digest = writer.add_sample(row["key"], parts, known)
    return described | {"members": [vars(m) for m in members], "sample_sha256": digest, "masks": masks}


def fixed_masks(recipe: ShardRecipe, seed: int, key: str) -> list[str]:
    """The mask recipes that a held-out photo carries, so many of each family, chosen by its key alone."""
    return [
        recipe_for(family, recipe.mask_canvas_px, recipe.mask_size_px, seed, "mask", recipe.source, key, number).line()
        for number in range(recipe.masks_per_family)
        for family in recipe.masks
    ]
