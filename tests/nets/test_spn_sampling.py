"""Many fills of one hole, and the best of them."""

from dataclasses import replace

import pytest
import torch

from nets.spn.network import SPN
from nets.spn.sampling import best_of, sample_fills
from tests.nets.configs import TINY_SPN
from tests.nets.objectives import inputs


def test_of_five_fills_the_nearest_is_kept_for_each_picture() -> None:
    image = torch.full((3, 3, 4, 4), 0.5)
    errors = torch.tensor([[0.3, 0.1, 0.2], [-0.1, 0.3, 0.4], [0.2, 0.2, -0.05], [0.4, 0.4, 0.4], [0.5, 0.05, 0.3]])
    fills = image + errors.view(5, 3, 1, 1, 1)
    best, numbers = best_of(fills, image)
    assert numbers.tolist() == [1, 4, 2]
    assert torch.equal(best, torch.stack([fills[1, 0], fills[4, 1], fills[2, 2]]))


def test_fills_are_truncated_before_they_are_compared() -> None:
    image = torch.full((1, 3, 2, 2), 100 / 255)
    nearer, equal = image - 0.1 / 255, image + 0.9 / 255  # 99 and 100 of 255
    _, numbers = best_of(torch.stack([nearer, equal]), image)
    assert numbers.tolist() == [1]


@pytest.mark.parametrize("num_fills", [1, 5])
def test_fills_of_a_hole_differ_inside_it_only(num_fills: int) -> None:
    torch.manual_seed(0)
    network, of = SPN(replace(TINY_SPN, probabilistic=True)), inputs()
    noise = 9 * torch.randn(num_fills, 2, *network.noise_shape(of.image))
    with torch.no_grad():
        fills = sample_fills(network, of.image, of.mask, noise)
    assert fills.shape == (num_fills, 2, 3, 32, 32)
    known = (of.mask == 0).expand_as(of.image)
    for number, fill in enumerate(fills):
        assert torch.equal(fill[known], of.image[known])
        assert number == 0 or not torch.equal(fill, fills[0])
