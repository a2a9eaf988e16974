"""The smooth fill: what must hold for any picture and any hole."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nets.layers.smooth import fill_smoothly


def make_world(seed: int, height: int, width: int, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A random picture, 0 in its random hole, and the hole; at least one pixel of each picture is known."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(2, 1, height, width, generator=generator) < share).float()
    mask[..., seed % height, seed % width] = 0
    return torch.rand(2, 3, height, width, generator=generator) * (1 - mask), mask


SIDES = st.integers(1, 33)


@given(st.integers(0, 999), SIDES, SIDES, st.sampled_from([0.0, 0.3, 0.9, 1.0]), st.integers(0, 5))
def test_known_pixels_stay_and_holes_get_colors_that_are_there(
    seed: int, h: int, w: int, share: float, sweeps: int
) -> None:
    known, mask = make_world(seed, h, w, share)
    filled, kept = fill_smoothly(known, mask, sweeps), (mask == 0).expand_as(known)
    assert torch.equal(filled[kept], known[kept])
    for picture, k, f in zip(known, kept, filled, strict=True):
        for color in range(3):
            there = picture[color][k[color]]
            assert f[color].min() >= there.min() - 1e-5
            assert f[color].max() <= there.max() + 1e-5


def measure_roughness(filled: torch.Tensor, mask: torch.Tensor) -> float:
    """How far hole pixels are from the mean of their four neighbors: 0 for a harmonic fill."""
    padded = torch.nn.functional.pad(filled, (1, 1, 1, 1), mode="replicate")
    rows, columns = padded[..., 1:-1], padded[..., 1:-1, :]
    mean = (rows[..., :-2, :] + rows[..., 2:, :] + columns[..., :-2] + columns[..., 2:]) / 4
    return float(((filled - mean).abs() * mask).sum() / mask.sum())


def test_sweeps_bring_the_fill_near_the_harmonic_one() -> None:
    torch.manual_seed(0)
    picture, mask = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 10:50, 20:60] = 1
    roughnesses = [measure_roughness(fill_smoothly(picture * (1 - mask), mask, n), mask) for n in (0, 1, 4, 400)]
    assert roughnesses == sorted(roughnesses, reverse=True)
    assert roughnesses[2] < roughnesses[0] / 3
    assert roughnesses[3] < 1e-3


def test_a_plane_between_its_borders_is_filled_as_a_plane() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    errors = [(fill_smoothly(ramp * (1 - mask), mask, n) - ramp).abs().max() for n in (0, 4)]
    assert errors[1] < 0.02
    assert errors[1] < errors[0] / 3


@given(st.integers(0, 999), SIDES, SIDES)
def test_a_picture_of_one_color_is_filled_with_it(seed: int, height: int, width: int) -> None:
    _, mask = make_world(seed, height, width, 0.8)
    color = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1)
    assert torch.allclose(fill_smoothly(color * (1 - mask), mask), color.expand(2, 3, height, width), atol=1e-5)


def test_a_hole_takes_the_color_of_its_side() -> None:
    known = torch.zeros(1, 3, 32, 32)
    known[..., 16:] = 1
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 2:6] = mask[..., 8:24, 26:30] = 1
    filled = fill_smoothly(known * (1 - mask), mask)
    assert filled[..., 8:24, 2:6].max() < 0.05
    assert filled[..., 8:24, 26:30].min() > 0.95


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (5, 7)])
def test_where_nothing_is_known_the_fill_is_black(size: tuple[int, int]) -> None:
    assert not fill_smoothly(torch.zeros(1, 3, *size), torch.ones(1, 1, *size)).any()
