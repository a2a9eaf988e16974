"""`lacuna probe`: every rate is there and plausible, nothing stays behind, and bad arguments are reported."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import simplejpeg

from jobs import cli
from pipelines.data.build.benchmark import make_natural_photo, measure_storage_rates
from pipelines.data.config import DatasetConfig
from pipelines.manifest import Dataset

BRIEFLY = ("--budget-seconds", "0.01")


def probe(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    """The command in this process: exit code, report, stderr."""
    code = cli.main(["probe", *BRIEFLY, *words])
    captured = capfd.readouterr()
    return code, json.loads(captured.out), captured.err


def rates_of(report: dict[str, Any]) -> dict[str, float]:
    """The fields whose names say that something is counted by the second."""
    return {name: rate for name, rate in report.items() if name.endswith("_per_second")}


def test_a_probe_reports_the_rates_that_a_build_depends_on(capfd: pytest.CaptureFixture[str]) -> None:
    code, report, stderr = probe(capfd)
    rates = rates_of(report)
    assert code == 0
    assert all(math.isfinite(rate) and rate > 0 for rate in rates.values()), rates
    assert set(report) - set(rates) == {"verb", "seconds", "num_cores"}
    assert {name.partition("_")[0] for name in rates} == {
        "decode", "resize", "encode", "sha256", "crc32", "mask", "out"
    }  # fmt: skip
    assert all(name.replace("_", " ") in stderr for name in rates)


def test_every_family_that_a_recipe_stores_by_itself_is_drawn(capfd: pytest.CaptureFixture[str]) -> None:
    rates = rates_of(probe(capfd)[1])
    families = DatasetConfig("folder").masks
    drawn = [name for name in rates if name.startswith("mask_")]
    assert drawn == [f"mask_{family}_256_masks_per_second" for family in families]


def test_rates_stand_in_the_order_that_the_work_demands(capfd: pytest.CaptureFixture[str]) -> None:
    rates = rates_of(probe(capfd, "--budget-seconds", "0.3")[1])
    assert rates["decode_jpeg_256x256_images_per_second"] > rates["decode_jpeg_1024x768_images_per_second"]
    assert 0.05 < rates["sha256_gb_per_second"] < 50
    assert rates["mask_rectangle_256_masks_per_second"] > rates["mask_automaton_256_masks_per_second"]


def test_the_place_is_measured_and_left_as_it_was(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("stays")
    code, report, _ = probe(capfd, "--out", str(tmp_path))
    assert code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert {name for name in report if name.startswith("out_")} == {
        "out_write_gb_per_second",
        "out_read_gb_per_second",
        "out_32kib_writes_per_second",
        "out_32kib_reads_per_second",
    }


def test_an_object_store_is_a_place() -> None:
    rates = measure_storage_rates("memory://probe-test", 0.01)
    assert all(rate > 0 for rate in rates.values())


def test_a_dataset_is_read_and_not_changed(capfd: pytest.CaptureFixture[str], dataset: Dataset) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in Path(dataset.uri).rglob("*"))
    code, report, _ = probe(capfd, "--data", dataset.uri)
    assert code == 0
    assert report["data_read_gb_per_second"] > 0
    assert report["data_32kib_reads_per_second"] > 0
    assert sorted((p, p.stat().st_mtime_ns) for p in Path(dataset.uri).rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--budget-seconds", "0"), "--budget-seconds is 0.0: it must be a finite number greater than 0"),
        (("--budget-seconds", "nan"), "--budget-seconds is nan: it must be a finite number greater than 0"),
        (("--out", "{tmp}/no"), "no folder at {tmp}/no: create it, or give the URI of an object store with --out"),
        (("--data", "{tmp}"), "no dataset at {tmp}: dataset.json is missing"),
    ],
    ids=["no time", "no number", "no folder", "no dataset"],
)
def test_bad_arguments_are_refused(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], error: str
) -> None:
    code, report, _ = probe(capfd, *(word.replace("{tmp}", str(tmp_path)) for word in words))
    assert code == 2
    assert report["error"].startswith(error.replace("{tmp}", str(tmp_path)))
    assert not list(tmp_path.iterdir())


def test_the_photo_costs_a_codec_what_photos_do() -> None:
    for height, width, low, high in ((256, 256, 8_000, 25_000), (768, 1024, 80_000, 200_000)):
        photo = make_natural_photo(height, width)
        assert photo.shape == (height, width, 3)
        assert low < len(simplejpeg.encode_jpeg(photo, 75, "RGB", "420")) < high
    assert (make_natural_photo(32, 48) == make_natural_photo(32, 48)).all()
