"""Photos that some reader refuses, through whole builds: written, verified and streamed with the pixels they have.

LACUNA_PICTURE_SUITE names a folder of test images, such as Pillow's `Tests/images`, to which the same law is applied.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from infra.world import World
from pipelines.data.build.pipeline import add_layer, build_dataset
from pipelines.data.commit.lock import claim_workspace
from pipelines.data.commit.workspace import Plan
from pipelines.data.dataset.verify import verify_dataset
from pipelines.manifest import open_dataset
from pipelines.records import CorruptDataError, UsageError
from pipelines.stream.batching import Stream
from pipelines.stream.config import StreamConfig
from pipelines.stream.geometry import decode
from pipelines.stream.reading import ShardReader
from tests.data.building import build_folder, rows_by_source, silent
from tests.data.hostile_files import segment
from tests.data.jpeg_files import END, JPEGS, adobe, at_once, decode_with_pillow, with_scan_parameters, without_jfif
from tests.data.picture_suites import outcomes, unlike
from tests.making import photo, photo_folder, shard_recipe

pytestmark = [pytest.mark.usefixtures("ray_cluster"), pytest.mark.filterwarnings("ignore::UserWarning")]
PLAIN, GRAY, PROGRESSIVE = JPEGS["colors 4:2:0"], JPEGS["gray"], JPEGS["progressive"]
SOUND = {
    "profile.jpg": at_once(PLAIN, segment(0xE2, b"ICC_PROFILE\0\5\2" + bytes(9))),
    "adobe.jpg": at_once(without_jfif(JPEGS["colors 4:4:4"]), adobe(2)),
    "scan.jpg": with_scan_parameters(GRAY, bytes(3)),
    "bytes.jpg": at_once(PROGRESSIVE, b"junk"),
}
CUT = {
    "third.jpg": PLAIN[: len(PLAIN) * 2 // 3] + END,
    "scans.jpg": PROGRESSIVE[: PROGRESSIVE.rindex(b"\xff\xda")] + END,
}
WHOLE_VIEW = StreamConfig(size_px=32, resize="squash", masks=("rectangle",), num_lanes=1, block_size=8)


@pytest.fixture(scope="module")
def odd_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound photos that strict readers refuse, beside ordinary ones and cut ones."""
    root = photo_folder(tmp_path_factory.mktemp("odd") / "photos", 8)
    for name, raw in (SOUND | CUT).items():
        (root / name).write_bytes(raw)
    return root


def test_sound_photos_are_written_and_cut_ones_are_rejected(odd_photos: Path, tmp_path: Path) -> None:
    dataset = build_folder(odd_photos, tmp_path / "data")
    rows = rows_by_source(dataset)
    assert {name: rows[name]["outcome"] for name in SOUND} == dict.fromkeys(SOUND, "written")
    assert "premature end of data segment" in rows["third.jpg"]["reason"]
    assert "no scan finishes its channel" in rows["scans.jpg"]["reason"]
    assert unlike(dataset) == []
    assert verify_dataset(dataset.uri)[1] == []


def test_a_dataset_whose_pixels_were_not_checked_streams_its_sound_photos(odd_photos: Path, tmp_path: Path) -> None:
    dataset = build_folder(odd_photos, tmp_path / "data", decode_check=False, holdout=0.0)
    reader, damaged = ShardReader((dataset,), "train"), []
    for shard, count in enumerate(reader.counts):
        for number in range(count):
            stored = reader.read(shard, number)
            source = odd_photos / stored.note["source"]
            assert stored.picture == source.read_bytes(), "bytes were kept"
            try:
                assert np.array_equal(decode(stored.picture, stored.key), decode_with_pillow(stored.picture))
            except CorruptDataError:
                damaged.append(stored.note["source"])
    assert damaged == ["third.jpg"]


def test_a_training_sees_every_sound_photo(odd_photos: Path, tmp_path: Path) -> None:
    dataset = build_folder(odd_photos, tmp_path / "data", holdout=0.0)
    stream = Stream((dataset,), WHOLE_VIEW, seed=0)
    batch = next(stream.batches(0, stream.num_samples, World()))
    assert set(batch.keys) >= {name.removesuffix(".jpg") for name in SOUND}
    assert batch.image.dtype == torch.uint8


def plan(root: Path, out: Path, check: bool) -> Plan:
    """A build with or without the check."""
    return Plan(str(root), str(out), shard_recipe(decode_check=check), 0)


def test_a_dataset_from_before_the_check_is_found_and_goes_on_as_it_was_begun(tmp_path: Path) -> None:
    root, more = photo_folder(tmp_path / "photos", 6), tmp_path / "more"
    old = build_dataset(plan(root, tmp_path / "data", check=False), silent)
    assert build_dataset(plan(root, tmp_path / "data", check=True), silent).manifest_sha256 == old.manifest_sha256
    more.mkdir()
    photo(77).save(more / "late.png")
    (more / "third.jpg").write_bytes(CUT["third.jpg"])
    grown = add_layer(plan(more, tmp_path / "data", check=True), silent)
    assert grown.commit["recipe"]["decode_check"] is False
    assert grown.commit["ledger"]["num_written"] == 8


def test_a_checked_dataset_is_not_the_same_as_an_unchecked_one(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "photos", 4)
    build_dataset(plan(root, tmp_path / "data", check=True), silent)
    with pytest.raises(UsageError, match="decode_check = True, not False"):
        build_dataset(plan(root, tmp_path / "data", check=False), silent)


def test_an_unfinished_build_from_before_the_check_is_finished_as_it_was_begun(tmp_path: Path) -> None:
    begun = plan(photo_folder(tmp_path / "photos", 4), tmp_path / "data", check=False)
    claim_workspace(
        begun.at(), {"change": "first build", "recipe": begun.config.as_json(), "seed": 0, "root": begun.root}
    )
    dataset = build_dataset(replace(begun, config=shard_recipe()), silent)
    assert dataset.commit["recipe"]["decode_check"] is False


@pytest.mark.slow
@pytest.mark.skipif("LACUNA_PICTURE_SUITE" not in os.environ, reason="LACUNA_PICTURE_SUITE names no folder of images")
def test_a_public_suite_is_sharded_whole(tmp_path: Path) -> None:
    root = Path(os.environ["LACUNA_PICTURE_SUITE"])
    recipe = shard_recipe(max_reject_share=1.0, min_side_px=1, max_pixels=30_000_000, shard_bytes=8 << 20)
    dataset = build_dataset(Plan(str(root), str(tmp_path / "data"), recipe, 0), silent)
    ledger, counts = dataset.commit["ledger"], outcomes(dataset)
    print(ledger, *counts.most_common(), sep="\n")
    assert ledger["num_inputs"] == sum(counts.values()) == sum(path.is_file() for path in root.rglob("*"))
    assert unlike(open_dataset(dataset.uri)) == []
