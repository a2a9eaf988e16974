"""Maps beside photos: damaged ones do no harm wherever the archive lies, all are counted, unknown ones are refused."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from infra import storage
from jobs import shard
from pipelines.data.build.scan import MAX_FILE_BYTES, list_source
from pipelines.data.build.write_shard import write_shard
from pipelines.data.commit.workspace import Plan
from pipelines.manifest import open_dataset
from pipelines.records import UsageError
from pipelines.stream.reading import ShardReader
from tests.data.building import build_folder, rows_by_source, scan_and_resolve
from tests.data.trees import put, zip_bytes
from tests.making import files_of, scene_folder, shard_recipe


def with_a_damaged_map(folder: Path) -> bytes:
    """A zip of four photos with their maps, of which the third has a wrong checksum."""
    tree = files_of(scene_folder(folder, 4))
    (damaged,) = (path for path in tree if path.endswith("00000002_seg.png"))
    data = bytearray(zip_bytes(tree))
    data[data.rindex(damaged.encode()) - 30] ^= 1  # in its entry of the directory
    return bytes(data)


@pytest.mark.parametrize("planes", [(), ("seg",)])
def test_a_damaged_map_in_a_zip_leaves_its_photo_wherever_the_zip_lies(planes: tuple[str, ...], tmp_path: Path) -> None:
    data = with_a_damaged_map(tmp_path / "scenes")
    trees: list[dict[str, bytes]] = []
    for place in (str(tmp_path), f"memory://{tmp_path.name}"):
        out = tmp_path / f"out{len(trees)}"
        recipe = shard_recipe(source="ade20k-aim", splits="ade20k", planes=planes, shard_bytes=1 << 20)
        plan = Plan(put(f"{place}/all.zip", data), str(out), recipe, 0)
        layout = list_source(plan)
        scan_and_resolve(plan, layout)
        records = [write_shard(plan, layout, split, 0)[0] for split in layout.num_shards]
        assert sum(record.num_samples for record in records) == 6
        assert sum(record.num_planes for record in records) == 5 * len(planes)
        assert sum(record.num_planes_rejected for record in records) == len(planes)
        storage.remove(plan.at())
        trees.append(files_of(out))
    assert trees[0] == trees[1]


def test_a_map_of_absurd_size_is_not_read_and_its_photo_is_written(tmp_path: Path) -> None:
    root = scene_folder(tmp_path / "in", 1)
    (huge,) = root.rglob("*_train_*_seg.png")
    with huge.open("r+b") as stream:
        stream.truncate(MAX_FILE_BYTES + 1)  # takes no place on the disk
    recipe = shard_recipe(source="ade20k-aim", splits="ade20k", planes=("seg",), shard_bytes=1 << 20)
    plan = Plan(str(root), str(tmp_path / "out"), recipe, 0)
    layout = list_source(plan)
    scan_and_resolve(plan, layout)
    record, _ = write_shard(plan, layout, "train", 0)
    (row,) = pq.read_table(tmp_path / "out" / record.table).to_pylist()
    assert (row["outcome"], row["planes"]) == (
        "written",
        [{"name": "seg", "reason": f"{MAX_FILE_BYTES + 1} bytes are more than {MAX_FILE_BYTES}"}],
    )


def build_by_command(*words: str) -> dict[str, Any]:
    """The report of `lacuna shard`."""
    return shard.run(shard.parse([*words, "--shard-bytes", "4000", "--masks"]))


@pytest.mark.usefixtures("ray_cluster")
def test_a_folder_of_photos_with_maps_has_photos_with_planes(tmp_path: Path) -> None:
    root, out = scene_folder(tmp_path / "in", 4), str(tmp_path / "out")
    images = root / "ADE20K_2016_07_26/images"
    (root / "new_image_names.txt").unlink()
    (images / "training/a/scene0/ADE_train_00000000.jpg").unlink()
    (images / "training/a/scene0/ADE_train_00000002_seg.png").write_bytes(b"no picture")
    words = ("--source", "folder", "--root", str(root), "--out", out, "--planes", "seg")
    report = build_by_command(*words)
    counts = {"num_inputs": 6, "num_written": 5, "num_rejected": 1, "num_planes": 4, "num_planes_rejected": 1}
    assert {name: report[name] for name in counts} == counts
    rows = rows_by_source(dataset := open_dataset(out))
    assert {Path(path).name: row["reason"] for path, row in rows.items() if row["outcome"] == "rejected"} == {
        "ADE_train_00000000_seg.png": "a map without its photo"
    }
    reader = ShardReader((dataset,), "train")
    places = [(number, n) for number, count in enumerate(reader.counts) for n in range(count)]
    for sample in (reader.read(*place) for place in places):
        beside = root / sample.note["source"].replace(".jpg", "_seg.png")
        whole = {"seg": beside.read_bytes()} if "00000002" not in beside.name else {}
        assert sample.planes == whole
    again = build_by_command(*words)
    assert {name: again[name] for name in counts} == counts


@pytest.mark.parametrize(
    ("source", "planes", "words"),
    [
        ("folder", ("segg",), r"unknown plane 'segg': the source 'folder' has seg, edge"),
        ("folder", ("seg", "sketch"), r"unknown plane 'sketch'"),
        ("celeba", ("seg",), r"unknown plane 'seg': the source 'celeba' has none; change or omit --planes"),
    ],
)
def test_planes_that_a_source_does_not_know_are_refused_before_work(
    source: str, planes: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        build_folder(tmp_path, tmp_path / "out", source=source, planes=planes)
    assert not (tmp_path / "out").exists()
