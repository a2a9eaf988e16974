"""What is shown of a network beside its fills: maps of every model that has some, temperatures as curves."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from infra.world import World
from pipelines.manifest import Dataset
from pipelines.training.validation import draw_maps, average_temperatures
from pipelines.training.validation import Validation, open_validator
from tests.making import train_recipe
from tests.nets.configs import CONFIGS
from tests.nets.objectives import objective

CELL = 32 * 4 + 4
"""A picture of 32 px, enlarged, and its gap."""


def observed(name: str, dataset: Dataset) -> Validation:
    """What a training of this objective says of itself before its first step."""
    watch = open_validator(dataset, train_recipe())
    assert watch is not None
    return watch.observe(objective(name).networks["generator"], World())


@pytest.mark.parametrize(
    ("name", "num_maps"), [("spn", 3), ("spl", 1), ("spn-probabilistic", 3), ("distill-net8", 3), ("distill-net1", 0)]
)
def test_a_sheet_has_a_column_for_every_map_of_the_network(name: str, num_maps: int, dataset: Dataset) -> None:
    sheets = observed(name, dataset).sheets
    assert ("maps" in sheets) == (num_maps > 0)
    if num_maps:
        with Image.open(io.BytesIO(sheets["maps"])) as sheet:
            assert sheet.width == 4 + (2 + num_maps) * CELL
            columns = np.asarray(sheet)[20:, 4 + 2 * CELL :]
            assert np.ptp(columns) > 0


def test_two_priors_that_are_drawn_for_a_hole_are_shown_with_their_fills(dataset: Dataset) -> None:
    sheets = observed("spn-probabilistic", dataset).sheets
    with Image.open(io.BytesIO(sheets["draws"])) as sheet:
        assert sheet.size == (4 + 6 * CELL, 18 + 4 + 4 * CELL)  # photo, hole, and twice a prior and its fill
        columns = [np.asarray(sheet)[22:, 4 + at * CELL : 4 + at * CELL + 128].astype(int) for at in range(6)]
    _, hole, first_prior, first_fill, second_prior, second_fill = columns
    assert (first_prior != second_prior).any()
    assert (first_fill != second_fill).any()
    known = (hole != 255).any(axis=2)
    assert (first_fill == second_fill)[known].all()


@pytest.mark.parametrize("name", ["spn", "mhtma"])
def test_networks_that_draw_nothing_have_no_sheet_of_draws(name: str, dataset: Dataset) -> None:
    assert "draws" not in observed(name, dataset).sheets


def test_every_head_of_the_attention_has_a_curve_of_its_temperature(dataset: Dataset) -> None:
    seen = observed("mhtma", dataset)
    told = {name: value for name, value in seen.values.items() if name.startswith("val_temperature_")}
    heads = CONFIGS["mhtma"].network.num_heads
    assert sorted(told) == [f"val_temperature_{head}" for head in range(1, heads + 1)]
    assert all(value > 0 for value in told.values())
    assert "maps" not in seen.sheets


def test_a_weight_of_fusion_is_a_shade_of_grey_at_its_place() -> None:
    weights = torch.tensor([[[[0.0, 1.0], [0.5, 0.2]]]])
    ((title, pictures),) = draw_maps({"fusion_2": weights, "predicted": torch.zeros(1, 3, 4, 4)}, 4)
    assert title == "fusion_2"
    assert pictures[0, ::2, ::2, 0].tolist() == [[0, 255], [128, 51]]
    assert np.array_equal(pictures[0, ::2, ::2], pictures[0, 1::2, 1::2])


def test_temperatures_are_means_over_samples() -> None:
    assert dict(average_temperatures({"temperatures": torch.tensor([[1.0, 4.0], [3.0, 8.0]])})) == {
        "val_temperature_1": 2.0,
        "val_temperature_2": 6.0,
    }
    assert not dict(average_temperatures({"predicted": torch.zeros(1)}))
