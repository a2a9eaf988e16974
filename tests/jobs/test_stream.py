"""`lacuna stream` and the loaders that `lacuna probe` reports: what they show is what a training would see."""

import io
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infra.world import World
from jobs import cli
from jobs.recipes import RECIPES
from pipelines.manifest import Dataset
from pipelines.stream.batching import Stream

RECIPE = RECIPES["deepgin-faces"]()


def lacuna(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    """The command in this process: exit code, report, stderr."""
    code = cli.main(words)
    captured = capfd.readouterr()
    return code, json.loads(captured.out), captured.err


def test_the_sheet_shows_what_the_training_would_see(
    capfd: pytest.CaptureFixture[str], dataset: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "sheet.png"
    words = ("--show", "3", "--recipe", "deepgin-faces", "--images-seen", "40", "--out", str(out))
    code, report, _ = lacuna(capfd, "stream", dataset.uri, *words)
    batch = next(islice(Stream((dataset,), RECIPE.stream, RECIPE.seed).batches(40, 3, World()), 1))
    assert code == 0
    assert (report["keys"], report["positions"]) == (list(batch.keys), [40, 41, 42])
    ratios = {name: report["hole_ratios"][name] for name in RECIPE.stream.masks}
    assert ratios["brush"] == [round(float(m.float().mean()), 4) for m in batch.mask[:, 2]]
    sheet = np.asarray(Image.open(io.BytesIO(out.read_bytes())))
    first = batch.image[0].permute(1, 2, 0).numpy().repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(sheet[18 : 18 + 128, 4 : 4 + 128], first)
    assert sheet.shape[1] == 7 * 132 + 4


def test_without_a_recipe_the_defaults_are_shown(
    capfd: pytest.CaptureFixture[str], dataset: Dataset, tmp_path: Path
) -> None:
    code, report, _ = lacuna(capfd, "stream", dataset.uri, "--show", "1", "--out", str(tmp_path / "s.png"))
    assert code == 0
    assert list(report["hole_ratios"]) == ["rectangle", "automaton", "brush"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no dataset given"),
        (("DATA", "--show", "0"), "--show is 0: it must be from 1 to 256"),
        (("DATA", "--show", "1000000000"), "--show is 1000000000"),
        (
            ("DATA", "--images-seen", "99999999999999999999"),
            "images_seen is 99999999999999999999: it must be from 0 to",
        ),
        (
            ("DATA", "DATA", "--mix", "1000000000", "1"),
            "1000000001 in all: use integers of at most 1000",
        ),
        (("DATA", "--images-seen", "-1"), "images_seen is -1: it must be from 0"),
        (("DATA", "--recipe", "nobody"), "unknown recipe 'nobody': `lacuna recipe` lists all"),
        (("DATA", "--mix", "1", "2"), "--mix is 1 2: give each of the datasets, 1 in all, an integer of at least 1"),
        (("nowhere",), "no dataset at nowhere"),
    ],
)
def test_bad_arguments_are_reported(
    capfd: pytest.CaptureFixture[str], dataset: Dataset, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "s.png"
    given = [dataset.uri if word == "DATA" else word for word in words]
    code, report, _ = lacuna(capfd, "stream", *given, "--out", str(out))
    assert code == 2
    assert message in report["error"]
    assert not out.exists()


def test_probe_reports_how_many_loaders_a_step_needs(capfd: pytest.CaptureFixture[str], dataset: Dataset) -> None:
    words = ("--budget-seconds", "0.01", "--data", dataset.uri, "--recipe", "deepgin-faces", "--step-seconds")
    slow, fast = (lacuna(capfd, "probe", *words, seconds) for seconds in ("10", "1e-9"))
    assert (slow[0], fast[0]) == (0, 0)
    assert slow[1]["images_per_second_of_1_loaders"] > 0
    assert slow[1]["loaders_needed"] == 1
    assert fast[1]["loaders_needed"] is None
    assert "not enough" in fast[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--recipe", "deepgin-faces"), "--recipe needs a dataset: give one with --data"),
        (("--step-seconds", "0.2"), "--step-seconds and --workers need a recipe: give one with --recipe"),
        (("--budget-seconds", "inf"), "--budget-seconds is inf: it must be a finite number greater than 0"),
        (
            ("--recipe", "deepgin-faces", "--data", "DATA", "--workers", "3"),
            "--workers 3 does not divide the batch size 4: use 1, 2 or 4",
        ),
        (("--recipe", "deepgin-faces", "--data", "DATA", "--step-seconds", "0"), "--step-seconds is 0.0"),
    ],
)
def test_probe_refuses_what_it_cannot_measure(
    capfd: pytest.CaptureFixture[str], dataset: Dataset, words: tuple[str, ...], message: str
) -> None:
    given = [dataset.uri if word == "DATA" else word for word in words]
    code, report, _ = lacuna(capfd, "probe", "--budget-seconds", "0.01", *given)
    assert code == 2
    assert message in report["error"]
