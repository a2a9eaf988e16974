"""A registered version: found again, not made twice, readable without pickle, and filling in a process of its own."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from infra.tracking import Tracking, Version
from pipelines.checkpoints import Checkpoint
from pipelines.evaluation.model_process import ModelProcess
from pipelines.evaluation.models import make_network_model, open_model
from pipelines.evaluation.scorecard import Scorecard, load_scorecard
from pipelines.manifest import Dataset
from pipelines.records import CorruptDataError, JobError, UsageError
from pipelines.registry.package import SCORES_TAG, WEIGHTS_TAG, register
from pipelines.registry.promotion import CHAMPION, promote
from pipelines.training.run import TrainRun
from pipelines.versions import list_files, make_version_tags
from tests.making import SIZE_PX, photo

pytestmark = pytest.mark.thorough

NAME = "inpainter"
PICKLE = b"\x80"


@pytest.fixture(scope="module")
def version(checkpoint: Checkpoint, card: Scorecard, tracking: Tracking) -> Version:
    """The first version of the model."""
    return register(checkpoint, card, NAME, tracking)


@pytest.fixture(scope="module")
def files(version: Version, tracking: Tracking, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all files of the version."""
    return tracking.download(version, tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def stored(version: Version, tracking: Tracking) -> Iterator[ModelProcess]:
    """The version in a process of its own."""
    process = ModelProcess.from_version(version, tracking)
    yield process
    process.close()


def odd_photo() -> tuple[np.ndarray, np.ndarray]:
    """A photo of 70x50 with a hole in the middle."""
    image, mask = np.array(photo(7, 50, 70))[None], np.zeros((1, 50, 70), np.uint8)
    mask[0, 15:35, 20:50] = 1
    return image, mask


def test_the_first_version_has_number_one(version: Version) -> None:
    assert (version.name, version.number, version.uri) == (NAME, "1", "models:/inpainter/1")


def test_registered_again_it_is_the_same_version(
    checkpoint: Checkpoint, card: Scorecard, tracking: Tracking, version: Version
) -> None:
    assert register(checkpoint, card, NAME, tracking) == version
    assert [v.number for v in tracking.list_versions(NAME)] == ["1"]


def test_what_another_command_registers_meanwhile_is_not_registered_twice(
    version: Version, checkpoint: Checkpoint, card: Scorecard, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storing a model and trying it takes half a minute, in which the same command may come to its end."""
    folder, log_model = tracking.find_local_folder(version), tracking.log_model
    assert folder is not None

    def store(*words: Any, **facts: Any) -> str:
        tracking.create_version("twice", folder.as_uri(), version.run_id, version.tags)
        return log_model(*words, **facts)

    monkeypatch.setattr(tracking, "log_model", store)
    assert register(checkpoint, card, "twice", tracking).number == "1"
    assert len(tracking.list_versions("twice")) == 1


def test_of_two_commands_that_register_in_lockstep_the_first_keeps_its_version(
    version: Version, checkpoint: Checkpoint, card: Scorecard, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, create = tracking.find_local_folder(version), tracking.create_version
    assert folder is not None

    def create_second(name: str, source: str, run_id: str, tags: dict[str, str]) -> Version:
        create(name, folder.as_uri(), version.run_id, version.tags)
        return create(name, source, run_id, tags)

    monkeypatch.setattr(tracking, "create_version", create_second)
    assert register(checkpoint, card, "lockstep", tracking).number == "1"
    assert [v.number for v in tracking.list_versions("lockstep")] == ["1"]
    tracking.move_alias("lockstep", "trial", "1")
    assert not tracking.delete_version(tracking.list_versions("lockstep")[0])


def test_scores_of_other_weights_are_refused(checkpoint: Checkpoint, card: Scorecard, tracking: Tracking) -> None:
    other = replace(card, model={"model": "elsewhere", "weights_sha256": "0" * 64})
    with pytest.raises(
        UsageError, match=rf"the scores are those of .*elsewhere.*{checkpoint.file_sha256('generator')}"
    ):
        register(checkpoint, other, "other", tracking)
    assert tracking.list_versions("other") == []


def test_scores_of_a_method_without_weights_are_refused(
    checkpoint: Checkpoint, card: Scorecard, tracking: Tracking
) -> None:
    with pytest.raises(UsageError, match="evaluate this checkpoint first"):
        register(checkpoint, replace(card, model={"model": "telea"}), "other", tracking)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a:b", "a@b", "a'b"])
def test_a_name_by_which_no_version_would_be_found_is_refused_at_once(
    checkpoint: Checkpoint, card: Scorecard, tracking: Tracking, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "log_model", lambda *_, **__: pytest.fail("a model was stored"))
    with pytest.raises(UsageError, match=r"--name is .*: use letters"):
        register(checkpoint, card, name, tracking)


@pytest.mark.parametrize("who", ["model", "telea"])
def test_scores_that_are_not_finite_are_refused(
    checkpoint: Checkpoint, card: Scorecard, tracking: Tracking, who: str
) -> None:
    row = card.rows[3]
    beside = row["baselines"] | {"telea": row["baselines"]["telea"] | {"l1_hole": float("nan")}}
    worse = row | ({"psnr_hole": float("nan")} if who == "model" else {"baselines": beside})
    with pytest.raises(UsageError, match=rf"(psnr_hole|l1_hole of telea) is nan for {row['key']} with mask '"):
        register(checkpoint, replace(card, rows=[*card.rows[:3], worse, *card.rows[4:]]), "other", tracking)
    assert tracking.list_versions("other") == []


def test_half_of_the_scores_is_refused(checkpoint: Checkpoint, card: Scorecard, tracking: Tracking) -> None:
    with pytest.raises(
        CorruptDataError, match=rf"{len(card.rows[::2])} rows, the passport counts {len(card.rows)} pairs"
    ):
        register(checkpoint, replace(card, rows=card.rows[::2]), "other", tracking)
    assert tracking.list_versions("other") == []


def test_tags_lead_back_to_weights_data_recipe_code_and_scores(
    version: Version, checkpoint: Checkpoint, dataset: Dataset, card: Scorecard, trained: TrainRun
) -> None:
    tags = version.tags
    assert tags[WEIGHTS_TAG] == checkpoint.file_sha256("generator")
    assert tags["lacuna.datasets"] == dataset.manifest_sha256
    assert (tags["lacuna.recipe"], tags["lacuna.images_seen"], tags["lacuna.run"]) == ("tiny", "32", trained.run_id)
    assert tags["lacuna.code"] == checkpoint.state["code_revision"]
    assert tags["lacuna.commit"]
    assert json.loads(tags["lacuna.passport"]) == card.passport
    assert len(tags[SCORES_TAG]) == len(tags["lacuna.recipe_sha256"]) == 64


def test_final_scores_are_metrics_of_the_run_and_of_the_logged_model(
    version: Version, card: Scorecard, tracking: Tracking
) -> None:
    client = MlflowClient(tracking.uri)
    found = client.get_model_version(version.name, version.number)
    of_run = client.get_run(str(found.run_id)).data.metrics
    of_model = {
        m.key: m.value for m in client.get_logged_model(str(found.source).removeprefix("models:/")).metrics or []
    }
    for metric in card.metrics:
        assert of_run[f"score_{metric}"] == pytest.approx(card.mean(metric))
        assert of_model[f"score_{metric}"] == pytest.approx(card.mean(metric))


def test_the_version_hangs_on_the_run_of_its_training(
    version: Version, checkpoint: Checkpoint, tracking: Tracking
) -> None:
    assert tracking.open_run(checkpoint.state["run_id"], "tiny", {}, {}) == version.run_id


def test_the_files_hold_no_pickle(files: Path) -> None:
    found = [path for path in files.rglob("*") if path.is_file()]
    suffixes = {path.suffix for path in found}
    assert {".safetensors", ".json", ".py"} <= suffixes
    assert suffixes <= {".safetensors", ".json", ".parquet", ".py", ".yaml", ".yml", ".txt", ".md", ""}
    assert [path for path in found if path.read_bytes()[:1] == PICKLE] == []


def test_the_files_are_those_of_the_checkpoint_and_of_the_scores(
    files: Path, checkpoint: Checkpoint, card: Scorecard
) -> None:
    assert (files / "artifacts" / "generator.safetensors").read_bytes() == checkpoint.read("generator")
    assert load_scorecard(str(files / "artifacts")) == card


def test_the_files_carry_the_networks_and_none_of_our_other_code(files: Path) -> None:
    assert {path.name for path in (files / "code").iterdir() if path.name != "__pycache__"} == {"nets"}
    assert (files / "code" / "nets" / "deepgin" / "network.py").is_file()


def test_a_process_of_its_own_fills_a_photo_of_any_size(stored: ModelProcess, checkpoint: Checkpoint) -> None:
    image, mask = odd_photo()
    filled = stored.fill(image, mask)
    assert filled.shape == image.shape
    assert np.array_equal(filled[mask == 0], image[mask == 0])
    assert not np.array_equal(filled, image)
    assert np.array_equal(filled, make_network_model(checkpoint).fill(image, mask))


def test_a_process_of_its_own_says_which_weights_it_has(stored: ModelProcess, checkpoint: Checkpoint) -> None:
    weights = checkpoint.file_sha256("generator")
    trained = {"recipe": "tiny", "resize": "random-square", "size_px": SIZE_PX}
    expected = {"weights_sha256": weights, "takes": [], "procedure": asdict(checkpoint.procedure), "trained": trained}
    assert stored.metadata == expected


@pytest.mark.usefixtures("tracking")
def test_the_model_refuses_what_is_no_mask(version: Version) -> None:
    model = mlflow.pyfunc.load_model(version.uri)
    image, mask = odd_photo()
    with pytest.raises(ValueError, match="the mask has a value of 255: use 1 for hole pixels"):
        model.predict({"image": image, "mask": mask * np.uint8(255)})
    with pytest.raises(ValueError, match=r"\(1, 50, 70, 3\) and mask \(1, 49, 70\) do not fit together"):
        model.predict({"image": image, "mask": mask[:, 1:]})
    with pytest.raises(ValueError, match="num_fills is 2: this network gives one fill per photo"):
        model.predict({"image": image, "mask": mask}, params={"num_fills": 2})


@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize("name", ["image", "mask"])
def test_the_signature_refuses_floats_and_missing_inputs(version: Version, name: str) -> None:
    model = mlflow.pyfunc.load_model(version.uri)
    image, mask = odd_photo()
    inputs = {"image": image, "mask": mask}
    with pytest.raises(Exception, match=rf"(?i){name}|float"):
        model.predict(inputs | {name: inputs[name].astype(np.float32)})
    with pytest.raises(Exception, match=rf"(?i){name}"):
        model.predict({other: value for other, value in inputs.items() if other != name})


@pytest.mark.slow
def test_the_words_of_the_model_come_out_of_its_process(tracking: Tracking, version: Version) -> None:
    process = ModelProcess.from_version(version, tracking)
    image, mask = odd_photo()
    with pytest.raises(JobError, match=r"models:/inpainter/1: .*the mask has a value of 255"):
        process.fill(image, mask * np.uint8(255))
    process.close()


def test_a_version_fills_with_its_own_code_and_not_with_ours(
    files: Path, tracking: Tracking, version: Version, tmp_path: Path
) -> None:
    copy = shutil.copytree(files, tmp_path / "version", ignore=shutil.ignore_patterns("registered_model_meta"))
    with (copy / "code" / "nets" / "filling.py").open("a") as code:
        code.write("\n\ndef fill_levels(network, images, *rest):\n    return torch.full_like(images, 7)\n")
    listed = json.loads((copy / "artifacts" / "files.json").read_bytes())
    listed["code/nets/filling.py"] = hashlib.sha256((copy / "code/nets/filling.py").read_bytes()).hexdigest()
    (copy / "artifacts" / "files.json").write_text(json.dumps(listed))
    made = tracking.create_version("other", copy.as_uri(), version.run_id, make_version_tags(list_files(copy)))
    process = ModelProcess.from_version(made, tracking)
    assert (process.fill(*odd_photo()) == 7).all()
    process.close()


def test_a_version_is_opened_by_its_alias(tracking: Tracking, version: Version, checkpoint: Checkpoint) -> None:
    tracking.move_alias(NAME, "trial", version.number)
    model = open_model(f"models:/{NAME}@trial")
    assert model.identity["weights_sha256"] == checkpoint.file_sha256("generator")
    image, mask = odd_photo()
    assert np.array_equal(model.fill(image, mask), make_network_model(checkpoint).fill(image, mask))


def test_a_changed_byte_in_the_stored_weights_stops_promotion_and_loading(tracking: Tracking, version: Version) -> None:
    with flip_byte(store_weights(tracking, version)):
        words = r"models:/inpainter/1: artifacts/generator\.safetensors has SHA-256 .*register the checkpoint again"
        with pytest.raises(CorruptDataError, match=words):
            promote(NAME, version.number, tracking)
        assert tracking.find_alias(NAME, CHAMPION) is None
        with pytest.raises(CorruptDataError, match=words):
            ModelProcess.from_version(version, tracking)
    assert promote(NAME, version.number, tracking, "weights of a test").promoted


def store_weights(tracking: Tracking, version: Version) -> Path:
    """Where the tracking server keeps the weights of the version."""
    folder = tracking.find_local_folder(version)
    assert folder is not None
    path = folder / "artifacts" / "generator.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == version.tags[WEIGHTS_TAG]
    return path


@contextmanager
def flip_byte(path: Path) -> Iterator[None]:
    """One bit of the file is another for the time of the block."""
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    yield
    path.write_bytes(whole)


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("models:/inpainter/99", "no version 99 of model 'inpainter' at sqlite:.*: its versions are 1"),
        ("models:/inpainter@nobody", "no version of model 'inpainter' at sqlite:.* has the alias 'nobody'"),
        ("models:/inpainter", "models:/inpainter names no version: give models:/NAME/NUMBER or models:/NAME@ALIAS"),
        ("models:/inpainter/latest", "models:/inpainter/latest names no version"),
    ],
)
def test_a_version_that_is_not_there_is_named(uri: str, words: str) -> None:
    with pytest.raises(FileNotFoundError, match=words):
        open_model(uri)
