"""`lacuna train` before it trains: its plan, and all that is missing or cannot be."""

from pathlib import Path

import pytest
from torch.nn import Conv2d

from infra.weights import FILES, publish_weights
from jobs.recipes import RECIPES
from pipelines.manifest import Dataset
from pipelines.training.run import claim_run
from tests.jobs.test_cli import run
from tests.making import train_recipe
from tests.weights import random_tresnet

pytestmark = pytest.mark.thorough


def test_dry_run_says_what_would_be_trained_and_leaves_nothing(
    capfd: pytest.CaptureFixture[str], dataset: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, report, _ = run(capfd, "train", "deepgin-demo", "--data", dataset.uri, "--out", str(out), "--dry-run")
    assert code == 0
    assert report["recipe"]["name"] == "deepgin-demo"
    assert report["num_steps"] * report["recipe"]["batch_size"] == report["recipe"]["images"]
    assert report["num_parameters"]["generator"] > 0
    assert report["num_checkpoints"] == -(-report["recipe"]["images"] // report["recipe"]["checkpoint_images"])
    assert 0 < report["checkpoint_bytes"] < report["memory_bytes_of_a_worker"]
    assert report["num_operations"] > 0
    assert 0 < report["hours_at_least"] < 1
    assert report["num_epochs"] == round(report["recipe"]["images"] / 44, 2)
    assert not out.exists()


TAUGHT = sorted(name for name, make in RECIPES.items() if make().objective.needs_weights)


@pytest.mark.parametrize("recipe", [name for name in TAUGHT if not RECIPES[name]().stream.planes])
def test_every_teacher_that_is_missing_is_said_before_any_work(
    capfd: pytest.CaptureFixture[str], dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setenv("LACUNA_WEIGHTS", str(tmp_path / "weights"))
    code, report, stderr = run(capfd, "train", recipe, "--data", dataset.uri, "--out", str(tmp_path / "run"))
    assert code == 2
    assert report["error"].startswith(f"recipe {recipe} needs weights of its teachers: no file at {tmp_path}/weights/")
    assert "Traceback" not in stderr
    for name in RECIPES[recipe]().objective.needs_weights:
        assert f"{tmp_path}/weights/{name}.safetensors" in report["error"]
        assert f"`lacuna weights {FILES[name].sources[0]} --out {tmp_path}/weights`" in report["error"]
    assert not (tmp_path / "run").exists()


def test_all_that_is_missing_is_said_at_once(
    capfd: pytest.CaptureFixture[str], dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LACUNA_WEIGHTS", str(tmp_path / "weights"))
    words = ("train", "mhtma-paris", "--data", dataset.uri, "--out", str(tmp_path / "run"), "--workers", "8")
    code, report, _ = run(capfd, *words, "--device", "cuda")
    assert code == 2
    for problem in (
        "no file at",
        "has none with masks of 256 px; build it with --holdout",
        "8 workers need a GPU each; there are 0 on this machine",
    ):
        assert problem in report["error"]


@pytest.mark.parametrize(
    ("recipe", "generator"),
    [
        ("spn-probabilistic-paris", 68_459_075),
        ("mhtma-paris", 16_169_624),
        ("deepgin-celebahq", 42_930_186),
        ("distill-paris", 5_280_508),
    ],
)
def test_a_dry_run_shows_its_plan_though_data_and_teachers_are_missing(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, generator: int
) -> None:
    monkeypatch.setenv("LACUNA_WEIGHTS", str(tmp_path / "weights"))
    words = (
        "train",
        recipe,
        "--data",
        str(tmp_path / "none"),
        "--out",
        str(tmp_path / "run"),
        "--dry-run",
        "--device",
        "cuda",
    )
    code, report, stderr = run(capfd, *words)
    assert code == 2
    assert f"recipe.batch size {report['recipe']['batch_size']}" in " ".join(stderr.split())
    assert len(report["missing"]) == 3
    assert report["error"] == "; and ".join(report["missing"])
    assert str(tmp_path / "none") in report["missing"][0]
    assert report["num_parameters"]["generator"] == generator
    assert (report["recipe"]["name"], report["num_epochs"], report["hours_at_least"]) == (recipe, None, None)
    assert report["memory_bytes_of_a_worker"] > report["checkpoint_bytes"] > 0
    assert not (tmp_path / "run").exists()


def test_fewer_photos_than_a_batch_takes_are_refused(
    capfd: pytest.CaptureFixture[str], dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        RECIPES, "large", lambda: train_recipe(batch_size=64, checkpoint_images=64, metric_images=64, images=64)
    )
    code, report, _ = run(capfd, "train", "large", "--data", dataset.uri, "--out", str(tmp_path / "run"))
    assert code == 2
    assert report["error"] == "44 photos to train on, a batch takes 64: give more --data"


def test_a_dry_run_of_a_paper_takes_shapes_alone(
    capfd: pytest.CaptureFixture[str], dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LACUNA_WEIGHTS", str(tmp_path))
    publish_weights(str(tmp_path), "tresnet_l_openimages", random_tresnet(), "a test", "")
    places: set[str] = set()
    monkeypatch.setattr(Conv2d, "reset_parameters", lambda layer: places.add(layer.weight.device.type))
    words = ("train", "spn-paris", "--data", dataset.uri, "--out", str(tmp_path / "run"), "--dry-run")
    code, report, _ = run(capfd, *words)
    assert code == 0
    assert report["num_parameters"] == {"generator": 50_648_835, "heads": 53_808, "critic": 2_763_776}
    assert places == {"meta"}


def test_a_dry_run_is_silent_about_hours_on_a_machine_that_it_cannot_measure(
    capfd: pytest.CaptureFixture[str], dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", "deepgin-demo", "--data", dataset.uri, "--out", str(tmp_path / "run"), "--dry-run")
    _, report, stderr = run(capfd, *words)
    assert report["hours_at_least"] > 0
    assert "hours at least" in stderr
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    _, report, stderr = run(capfd, *words)
    assert report["hours_at_least"] is None
    assert "hours at least" not in stderr


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--workers", "3"), "--workers 3 does not divide the batch size 4: use 1, 2 or 4"),
        (("--workers", "0"), "--workers is 0"),
        (("--workers", "2", "--min-workers", "3"), "--min-workers is 3: use 1 to 2, the number of --workers"),
        (("--workers", "4", "--min-workers", "2"), "--workers 3 does not divide the batch size 4: use 1, 2 or 4"),
        (("--grad-accumulation", "3"), "--grad-accumulation 3 does not divide the 4 photos of a worker: use 1, 2 or 4"),
        (
            ("--device", "cuda"),
            "--device is cuda: 1 workers need a GPU each; there are 0 on this machine. Use --device cpu, or ",
        ),
        (("--images", "6"), "--images is 6: use a multiple of the batch size 4, at most "),
        (("--images", "-4"), "--images is -4"),
        (("--images", "4000000"), "--images is 4000000"),
    ],
)
def test_numbers_that_cannot_be_trained_are_refused(
    capfd: pytest.CaptureFixture[str], dataset: Dataset, tmp_path: Path, options: tuple[str, ...], error: str
) -> None:
    words = ("train", "deepgin-demo", "--data", dataset.uri, "--out", str(tmp_path / "run"), *options)
    code, report, _ = run(capfd, *words)
    assert code == 2
    assert report["error"].startswith(error)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_that_the_place_belongs_to_another_run(
    capfd: pytest.CaptureFixture[str], dataset: Dataset, tmp_path: Path
) -> None:
    out = str(tmp_path / "run")
    claim_run(RECIPES["deepgin-faces"](), (dataset,), out)
    words = ("train", "deepgin-demo", "--data", dataset.uri, "--out", out)
    outcomes = [run(capfd, *words, *option) for option in (("--dry-run",), ())]
    assert [code for code, _, _ in outcomes] == [2, 2]
    for _, report, _ in outcomes:
        assert report["error"].startswith(f"{out} holds a run with recipe.")
        assert "not 'deepgin-demo'" in report["error"]
    assert outcomes[0][1]["num_steps"] > 0


def test_what_can_be_no_place_is_refused_by_a_dry_run_too(
    capfd: pytest.CaptureFixture[str], dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    monkeypatch.chdir(tmp_path)
    for out, error in (
        ("", "a path or URI is empty"),
        (str(file), f"{file} cannot be a folder"),
        ("foo://bar", "foo://bar has the unknown scheme foo://"),
    ):
        for option in ((), ("--dry-run",)):
            code, report, stderr = run(capfd, "train", "deepgin-demo", "--data", dataset.uri, "--out", out, *option)
            assert code == 2
            assert report["error"].startswith(error)
            assert "Traceback" not in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("record", [b"", b'{"a', b"[1]", b"{}"])
def test_a_damaged_record_of_a_run_is_named(
    capfd: pytest.CaptureFixture[str], dataset: Dataset, tmp_path: Path, record: bytes
) -> None:
    out = tmp_path / "run"
    claim_run(RECIPES["deepgin-demo"](), (dataset,), str(out))
    (out / "run.json").write_bytes(record)
    for option in ((), ("--dry-run",)):
        code, report, _ = run(capfd, "train", "deepgin-demo", "--data", dataset.uri, "--out", str(out), *option)
        assert code == 2
        assert report["error"] == f"{out}/run.json is no record of a run: restore it, or train at another --out"
