"""Versions whose files are not those registered stop promotion and rollback, whoever has them."""

import shutil

import pytest

from pipelines.records import CorruptDataError, UsageError
from pipelines.registry.promotion import promote, rollback
from tests.registry.registries import NAME, Registry, flip_byte


@pytest.mark.parametrize("who", ["1", "2"])
def test_damaged_weights_stop_a_promotion_whether_champion_or_challenger(registry: Registry, who: str) -> None:
    registry.add()
    registry.add_card(registry.card, b"other weights")
    promote(NAME, "1", registry.tracking)
    flip_byte(registry.files(who) / "generator.safetensors")
    with pytest.raises(CorruptDataError, match=f"models:/inpainter/{who}: artifacts/generator.safetensors has SHA-256"):
        promote(NAME, "2", registry.tracking)
    assert registry.champion == "1"


def test_missing_weights_stop_a_promotion(registry: Registry) -> None:
    registry.add()
    (registry.files("1") / "generator.safetensors").unlink()
    with pytest.raises(CorruptDataError, match=r"models:/inpainter/1: artifacts/generator\.safetensors is missing"):
        promote(NAME, "1", registry.tracking)
    assert registry.champion is None


def test_missing_scores_stop_a_promotion(registry: Registry) -> None:
    registry.add()
    (registry.files("1") / "scores.json").unlink()
    with pytest.raises((CorruptDataError, UsageError), match="scores"):
        promote(NAME, "1", registry.tracking)
    assert registry.champion is None


def test_missing_pairs_stop_a_promotion(registry: Registry) -> None:
    registry.add()
    (registry.files("1") / "pairs.parquet").unlink()
    with pytest.raises((CorruptDataError, UsageError, OSError), match=r"pairs\.parquet"):
        promote(NAME, "1", registry.tracking)
    assert registry.champion is None


def test_missing_files_stop_a_promotion(registry: Registry) -> None:
    registry.add()
    shutil.rmtree(registry.files("1").parent)
    with pytest.raises((CorruptDataError, OSError), match=r"models:/inpainter/1"):
        promote(NAME, "1", registry.tracking)
    assert registry.champion is None


def test_scores_that_were_exchanged_stop_a_promotion(registry: Registry) -> None:
    registry.add()
    registry.add(-1.0)
    registry.add(1.0)
    promote(NAME, "1", registry.tracking)
    for name in ("scores.json", "pairs.parquet"):
        shutil.copy(registry.files("3") / name, registry.files("2") / name)
    with pytest.raises(CorruptDataError, match=r"models:/inpainter/2"):
        promote(NAME, "2", registry.tracking)
    assert registry.champion == "1"


def test_rollback_to_a_damaged_version_is_refused(registry: Registry) -> None:
    registry.add()
    registry.add(1.0)
    for number in ("1", "2"):
        promote(NAME, number, registry.tracking)
    flip_byte(registry.files("1") / "generator.safetensors")
    with pytest.raises(CorruptDataError, match="models:/inpainter/1"):
        rollback(NAME, registry.tracking)
    assert registry.champion == "2"


def test_a_damaged_champion_is_not_confirmed_and_gives_way_to_its_own_weights_alone(registry: Registry) -> None:
    registry.add()
    promote(NAME, "1", registry.tracking)
    flip_byte(registry.files("1") / "generator.safetensors")
    with pytest.raises(CorruptDataError, match=r"models:/inpainter/1: artifacts/generator.safetensors has SHA-256"):
        promote(NAME, "1", registry.tracking)
    registry.add_card(registry.card, b"other weights")
    with pytest.raises(
        CorruptDataError, match=r"inpainter/1: .*\. Register the champion's checkpoint again and promote that"
    ):
        promote(NAME, "2", registry.tracking, "a reason")
    assert registry.champion == "1"
    registry.add()
    assert promote(NAME, "3", registry.tracking).reason.startswith("the champion's own weights, registered again: ")
    assert registry.champion == "3"
