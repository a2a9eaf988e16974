"""Last step of a build: one shard, from the rows of its bucket to a tar, a table and a record.

The tar is a plain webdataset tar of fixed member times, owners and modes, its last member the index `__index__`. A
sample's members stand together, samples in the order of their keys; nothing else decides the bytes.
"""

import hashlib
import io
import json
import tarfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import webdataset as wds

from infra import storage
from pipelines.data.cleaning import clean
from pipelines.data.recipe import ShardRecipe
from pipelines.data.settling import settled_inputs
from pipelines.data.workspace import Layout, Plan
from pipelines.manifest import TABLE_SCHEMA, table_bytes
from pipelines.masks.recipe import recipe_for
from pipelines.records import Member, Rejected, Sample, ShardRecord, canonical_json, sha256_hex

INDEX_MEMBER: Final = "__index__"
_BLOCK: Final = tarfile.BLOCKSIZE


class ShardWriter:
    """A webdataset tar under construction that knows where each member lies and what the whole digests to."""

    def __init__(self, stream: BinaryIO) -> None:
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0
        self._stream = stream
        self._tar = wds.TarWriter(
            self, encoder=False, mtime=0, user="lacuna", group="lacuna", mode=0o644, format="GNU_FORMAT"
        )
        self._members: list[Member] = []

    def write(self, data: bytes) -> int:
        """Takes the bytes of the tar: the writer is the stream that TarWriter writes to."""
        self.sha256.update(data)
        self.size_bytes += len(data)
        return self._stream.write(data)

    def add(self, key: str, suffix: str, data: bytes) -> Member:
        """Appends `<key>.<suffix>`."""
        self._tar.write({"__key__": key, suffix: data})
        padded = -(-len(data) // _BLOCK) * _BLOCK
        member = Member(f"{key}.{suffix}", self._tar.tarstream.offset - padded, len(data), zlib.crc32(data))
        self._members.append(member)
        return member

    def close(self) -> None:
        """Appends the index of all members and ends the tar."""
        index = canonical_json({"members": [[m.name, m.offset, m.size, m.crc32] for m in self._members]})
        info = tarfile.TarInfo(INDEX_MEMBER)
        info.size, info.mode, info.uname, info.gname = len(index), 0o644, "lacuna", "lacuna"
        self._tar.tarstream.addfile(info, io.BytesIO(index))
        self._tar.close()


def write_shard(plan: Plan, layout: Layout, split: str, number: int) -> ShardRecord:
    """Builds and publishes one shard and its table, unless its record says that it is done."""

    def write() -> dict[str, Any]:
        with storage.scratch_folder(plan.at("scratch")) as folder:
            return asdict(_build_shard(plan, layout, split, number, folder / "shard.tar"))

    return ShardRecord(**plan.once(f"records/{split}-{number:06d}", write))


def _build_shard(plan: Plan, layout: Layout, split: str, number: int, path: Path) -> ShardRecord:
    with path.open("wb") as stream:
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
    members = [asdict(writer.add(row["key"], suffix, data)) for suffix, data in sorted(parts.items())]
    digest = sha256_hex(b"".join(data for _, data in sorted(parts.items())))
    return described | {"members": members, "sample_sha256": digest, "masks": masks}


def fixed_masks(recipe: ShardRecipe, seed: int, key: str) -> list[str]:
    """The mask recipes that a held-out photo carries, so many of each family, chosen by its key alone."""
    return [
        recipe_for(family, recipe.mask_canvas_px, recipe.mask_size_px, seed, "mask", recipe.source, key, number).line()
        for number in range(recipe.masks_per_family)
        for family in recipe.masks
    ]


def read_index(shard: bytes) -> list[Member]:
    """The members that a whole shard says it has; raises ValueError where its last member is not an index."""
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        last = tar.getmembers()[-1]
        stream = tar.extractfile(last) if last.name == INDEX_MEMBER else None
        if stream is None:
            raise ValueError(f"the last member is {last.name!r}, not {INDEX_MEMBER!r}: the shard is cut or foreign")
        return [Member(*row) for row in json.loads(stream.read())["members"]]
