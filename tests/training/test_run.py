"""A run: who it is, what it leaves under its `--out`, and what happens when it is started again."""

import hashlib
import json
import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from infra import storage
from infra.weights import WeightsError, publish_weights
from infra.world import World
from nets import build_network
from nets.deepgin.network import DeepGINConfig
from nets.filling import LOCAL
from pipelines.checkpoints import find_latest_checkpoint, open_checkpoint
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.evaluation.metrics import measure
from pipelines.evaluation.pairs import read_chunk
from pipelines.manifest import Dataset
from pipelines.records import CorruptDataError, UsageError, canonical_json
from pipelines.training.mlflow_sync import read_points
from pipelines.training.recipe import TrainRecipe
from pipelines.training.run import TrainRun, claim_run
from pipelines.training.validation import open_validator
from pipelines.training.worker import INCIDENTS, read_incidents, run_rank
from tests.making import shard_recipe, train_recipe

pytestmark = pytest.mark.thorough

CLOCKS = [4, 8, 12, 16, 20, 24, 28, 32]


def silent(*_: object) -> None:
    """Progress that nobody watches."""


def files(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def copy_run(run: TrainRun, folder: Path) -> TrainRun:
    """The same run with a copy of all that it left."""
    shutil.copytree(run.out, folder / "run")
    return replace(run, out=str(folder / "run"))


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def list_committed_clocks(out: str) -> list[int]:
    return [point["images_seen"] for point in read_points(out)]


def test_the_same_settings_are_the_same_run(dataset: Dataset, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    assert claim_run(train_recipe(), (dataset,), out) == claim_run(train_recipe(), (dataset,), out)
    assert claim_run(train_recipe(), (dataset,), out) != claim_run(train_recipe(), (dataset,), str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        (train_recipe(seed=1), "recipe.seed"),
        (train_recipe(batch_size=2), "recipe.batch_size"),
        (train_recipe(objective=replace(train_recipe().objective, network=DeepGINConfig(12, 1, 1))),
         "recipe.objective.network.width"),
        (train_recipe(images=64), "recipe.images"),
    ],
)  # fmt: skip
def test_another_recipe_is_refused_with_the_differing_field(
    dataset: Dataset, tmp_path: Path, changed: TrainRecipe, field: str
) -> None:
    claim_run(train_recipe(), (dataset,), str(tmp_path))
    with pytest.raises(UsageError, match=rf"holds a run with {field} = .*, not .*another --out"):
        claim_run(changed, (dataset,), str(tmp_path))


def test_another_dataset_is_refused(photos: Path, dataset: Dataset, tmp_path: Path) -> None:
    other = build_dataset(Plan(str(photos), str(tmp_path / "data"), shard_recipe(masks_per_family=2), seed=0), silent)
    claim_run(train_recipe(), (dataset,), str(tmp_path / "run"))
    with pytest.raises(UsageError, match=rf"{other.uri} has the digest .* another --out"):
        claim_run(train_recipe(), (other,), str(tmp_path / "run"))


def test_other_weights_of_a_teacher_are_refused_by_name(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LACUNA_WEIGHTS", str(tmp_path))
    recipe, out = train_recipe(objective=replace(train_recipe().objective, style_weight=1.0)), str(tmp_path / "run")
    with pytest.raises(WeightsError, match=r"no file at .*/vgg19_features.safetensors"):
        claim_run(recipe, (dataset,), out)
    digests = []
    for number in (1.0, 2.0):
        state = {"features.0.weight": torch.full((1,), number)}
        digests.append(publish_weights(str(tmp_path), "vgg19_features", state, "vgg19-dcbb9e9d.pth", ""))
        if number == 1.0:
            assert claim_run(recipe, (dataset,), out) == claim_run(recipe, (dataset,), out)
    with pytest.raises(UsageError, match=f"teachers.vgg19_features = '{digests[0]}', not '{digests[1]}'"):
        claim_run(recipe, (dataset,), out)


def test_checkpoints_whose_record_is_gone_are_nobodys(trained: TrainRun, dataset: Dataset, tmp_path: Path) -> None:
    out = copy_run(trained, tmp_path).out
    (Path(out) / "run.json").unlink()
    with pytest.raises(CorruptDataError, match=r"has checkpoints and no run.json"):
        claim_run(trained.recipe, (dataset,), out)


def test_a_refused_claim_changes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    claim_run(train_recipe(), (dataset,), str(tmp_path))
    before = files(tmp_path)
    with pytest.raises(UsageError):
        claim_run(train_recipe(seed=1), (dataset,), str(tmp_path))
    assert files(tmp_path) == before


def test_the_two_newest_checkpoints_are_kept(trained: TrainRun) -> None:
    assert sorted(path.name for path in (Path(trained.out) / "checkpoints").iterdir()) == [
        "000000000024",
        "000000000032",
    ]


def test_the_ledger_balances(trained: TrainRun) -> None:
    state = open_checkpoint(trained.out).state
    assert state["images_seen"] == 32 == state["ledger"]["num_steps"] * state["ledger"]["batch_size"]


def test_a_checkpoint_says_what_it_is(trained: TrainRun, dataset: Dataset) -> None:
    state = open_checkpoint(trained.out).state
    assert state["recipe"] == trained.recipe.as_json()
    assert state["datasets"] == [dataset.manifest_sha256]
    assert (state["run_id"], state["stage"], state["size_px"]) == (trained.run_id, "adversarial", 32)
    assert state["procedure"] == asdict(LOCAL)


def test_every_point_is_published_once(trained: TrainRun) -> None:
    assert list_committed_clocks(trained.out) == CLOCKS
    newest = json.loads((Path(trained.out) / "progress.json").read_bytes())
    assert newest["images_seen"] == 32


def test_points_after_the_newest_checkpoint_do_not_count(trained: TrainRun, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "000000000032")
    assert list_committed_clocks(run.out) == CLOCKS[:6]


def test_a_sheet_of_fills_lies_beside_every_checkpoint(trained: TrainRun) -> None:
    sheets = sorted((Path(trained.out) / "fills").iterdir())
    assert [path.name for path in sheets] == [f"{clock:012d}.png" for clock in (8, 16, 24, 32)]
    for path in sheets:
        with Image.open(path) as sheet:
            assert (sheet.format, sheet.mode) == ("PNG", "RGB")
            assert np.ptp(np.asarray(sheet)) > 100


def test_the_observed_psnr_is_that_of_the_fills(trained: TrainRun, dataset: Dataset) -> None:
    checkpoint = open_checkpoint(trained.out)
    network = build_network(checkpoint.state["network"])
    network.load_state_dict(checkpoint.tensors("generator"))
    validator = open_validator(dataset, trained.recipe)
    assert validator is not None
    seen = validator.score(network, World()).values
    assert network.training
    reported = read_points(trained.out)[-1]["values"]
    assert seen == pytest.approx({name: value for name, value in reported.items() if name.startswith("val_")}, rel=1e-9)
    pairs = read_chunk(dataset.uri, "val", "centre-square", 0)
    worst = [measure(i, m, 255 - i)["psnr_hole"] for i, m in zip(pairs.images, pairs.masks, strict=True)]
    assert seen["val_psnr_hole"] > float(np.mean(worst))


def test_nothing_is_observed_where_the_held_out_masks_have_another_size(dataset: Dataset) -> None:
    recipe = train_recipe()
    assert open_validator(dataset, replace(recipe, stream=replace(recipe.stream, size_px=64))) is None


def test_watching_does_not_change_what_is_learned(trained: TrainRun, tmp_path: Path) -> None:
    seldom = replace(trained.recipe, checkpoint_images=32)
    run = replace(trained, recipe=seldom, out=str(tmp_path))
    run_rank(run, World(), silent)
    one, other = open_checkpoint(run.out), open_checkpoint(trained.out)
    assert one.file_sha256("generator") == other.file_sha256("generator")


def test_a_finished_run_does_nothing_again(trained: TrainRun, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path)
    before = files(tmp_path)
    assert run_rank(run, World(), silent) == open_checkpoint(run.out).uri
    assert files(tmp_path) == before


def test_reports_carry_the_clock_of_each_commit(trained: TrainRun, tmp_path: Path) -> None:
    reports: list[dict[str, Any]] = []
    run_rank(replace(trained, out=str(tmp_path), until_images=20), World(), reports.append)
    assert [report["images_seen"] for report in reports] == [8, 16, 20]
    assert all(np.isfinite(list(report.values())).all() for report in reports)


def test_more_images_train_on_and_end_where_one_go_ends(trained: TrainRun, dataset: Dataset, tmp_path: Path) -> None:
    out = str(tmp_path)
    run_id = claim_run(trained.recipe, (dataset,), out)
    for until in (12, 32):  # 12 lies between two checkpoints
        assert claim_run(trained.recipe, (dataset,), out) == run_id
        run_rank(replace(trained, out=out, run_id=run_id, until_images=until), World(), silent)
        assert open_checkpoint(out).images_seen == until
        assert list_committed_clocks(out) == CLOCKS[: until // 4]
    assert open_checkpoint(out).state["files"] == open_checkpoint(trained.out).state["files"]


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_goes_on(
    trained: TrainRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = copy_run(trained, tmp_path)
    flip_byte(Path(run.out) / "checkpoints" / "000000000032" / "adam.generator.safetensors")
    with caplog.at_level(logging.WARNING):
        found = find_latest_checkpoint(run.out)
    assert found is not None
    assert found.images_seen == 24
    assert "000000000032/adam.generator.safetensors is damaged" in caplog.text
    run_rank(run, World(), silent)
    assert open_checkpoint(run.out).state["files"] == open_checkpoint(trained.out).state["files"]
    assert list_committed_clocks(run.out) == CLOCKS


def test_a_checkpoint_without_its_record_does_not_exist(trained: TrainRun, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path)
    (Path(run.out) / "checkpoints" / "000000000032" / "state.json").unlink()
    run_rank(run, World(), silent)
    assert open_checkpoint(run.out).state["files"] == open_checkpoint(trained.out).state["files"]


def test_ranks_that_start_at_different_clocks_stop(trained: TrainRun, tmp_path: Path) -> None:
    class Ahead(World):
        """Two ranks, of which the other has seen eight photos more."""

        def average(self, tensors: Any) -> torch.Tensor:
            for tensor in tensors:
                tensor.add_(4)
            return torch.zeros(self.size, dtype=torch.bool)

    with pytest.raises(RuntimeError, match="rank 0 starts at 0 images and others elsewhere"):
        run_rank(replace(trained, out=str(tmp_path)), Ahead(0, 2), silent)
    assert not list(tmp_path.iterdir())


def test_a_sheet_has_twelve_rows_of_photo_hole_and_fill(trained: TrainRun) -> None:
    with Image.open(Path(trained.out) / "fills" / "000000000032.png") as sheet:
        assert sheet.size == (4 + 3 * (32 * 4 + 4), 18 + 4 + 12 * (32 * 4 + 4))


def test_loader_processes_change_nothing_that_is_learned(trained: TrainRun, tmp_path: Path) -> None:
    loaded = replace(trained, out=str(tmp_path / "run"), num_loader_workers=2)
    run_rank(loaded, World(), silent)
    ends = [open_checkpoint(run.out) for run in (trained, loaded)]
    assert ends[0].state["files"] == ends[1].state["files"]


def test_a_checkpoint_of_another_dataset_is_refused_by_name(trained: TrainRun, photos: Path, tmp_path: Path) -> None:
    other = build_dataset(Plan(str(photos), str(tmp_path / "data"), shard_recipe(masks_per_family=2), seed=0), silent)
    shutil.copytree(trained.out, tmp_path / "run")
    with pytest.raises(
        UsageError, match=rf"{other.uri} has the digest .* Restore that dataset, or train at another --out"
    ):
        run_rank(replace(trained, data=(other.uri,), out=str(tmp_path / "run")), World(), silent)


def test_damage_that_is_replaced_is_counted_and_named(trained: TrainRun, dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(dataset.uri, tmp_path / "data")
    shard = dataset.split("train")[0]
    path = tmp_path / "data" / shard.file
    path.write_bytes(bytes(path.stat().st_size))
    recipe = replace(trained.recipe, stream=replace(trained.recipe.stream, damaged="replace"))
    run = replace(trained, recipe=recipe, data=(str(tmp_path / "data"),), out=str(tmp_path / "run"))
    run_rank(run, World(), silent)
    reported = read_incidents(run.out)
    assert reported
    assert all(shard.file in line and line.startswith("position ") for line in reported)
    positions = {int(line.split(":")[0].removeprefix("position ")) for line in reported}
    assert positions < set(range(recipe.images)), "some were whole, and none was there that was not seen"
    assert read_incidents(trained.out) == []
    storage.publish(
        f"{run.out}/{INCIDENTS}/{recipe.images + 8:012d}-00001.json", canonical_json(["of a start that was lost"])
    )
    run_rank(run, World(), silent)
    assert read_incidents(run.out) == reported
