"""A residual network may be given the smooth fill that it adds to, as polyphase pictures of one photo are."""

from dataclasses import replace
from typing import Any, Final

import pytest
import torch
from torch import Tensor

from nets import build_network, describe_network
from nets.baselines.edge import ECConfig
from nets.baselines.gated import GCConfig
from nets.baselines.partial import PCConfig
from nets.deepgin.network import DeepGIN, DeepGINConfig
from nets.filling import Procedure, fill_levels
from nets.layers.smooth import fill_smoothly
from nets.procedures.network import compute_smooth_base
from tests.nets.configs import SMALL_DISTILL, SMALL_MHTMA, TINY_SPL, TINY_SPN

CONFIGS: Final[dict[str, Any]] = {
    "deepgin": DeepGINConfig(4, 1, 1),
    "deepgin with sweeps": DeepGINConfig(4, 1, 1, smoothing_sweeps=3),
    "distill": SMALL_DISTILL.network,
    "ec": ECConfig(4, 1),
    "gc": GCConfig(4, (2,)),
    "mhtma": SMALL_MHTMA.network,
    "pc": PCConfig((4, 8, 8), (5, 3, 3)),
    "spl": TINY_SPL,
    "spn": TINY_SPN,
}


def make_pictures() -> tuple[Tensor, Tensor]:
    """Two random pictures and the same box of hole in both."""
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., 6:20, 4:24] = 1
    return torch.rand(2, 3, 32, 32), mask


@pytest.mark.parametrize("name", CONFIGS)
def test_the_base_that_a_network_is_given_is_the_one_it_would_make(name: str) -> None:
    network, (image, mask) = (
        build_network(describe_network(replace(CONFIGS[name], residual=True))).eval(),
        make_pictures(),
    )
    alone, given = network(image, mask), network(image, mask, **compute_smooth_base(network, image, mask))
    assert torch.equal(alone["predicted"], given["predicted"])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_network_adds_to_the_base_it_is_given_and_does_not_look_outside_the_hole(name: str) -> None:
    network, (image, mask) = (
        build_network(describe_network(replace(CONFIGS[name], residual=True))).eval(),
        make_pictures(),
    )
    base = torch.rand_like(image)
    first, second = (network(image, mask, base=b)["inpainted"] for b in (base, torch.where(mask > 0, base, 0.5)))
    assert torch.equal(first, second)
    assert not torch.allclose(first, network(image, mask)["inpainted"], atol=1e-3)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_network_that_is_not_residual_is_given_no_base(name: str) -> None:
    assert compute_smooth_base(build_network(describe_network(CONFIGS[name])), *make_pictures()) == {}


@pytest.mark.parametrize("size", [(64, 96), (48, 16)], ids=str)
def test_phases_of_a_network_that_adds_nothing_are_the_smooth_fill_of_the_photo(size: tuple[int, int]) -> None:
    photo, hole = torch.randint(0, 256, (1, *size, 3)).to(torch.uint8), torch.zeros(1, *size, dtype=torch.uint8)
    hole[:, 9:31, 3:14] = 1
    network = DeepGIN(DeepGINConfig(4, 1, 1, residual=True, initial_scale=0.0))
    filled = fill_levels(network, photo, hole, 16, Procedure("polyphase"))
    mask = hole[:, None].float()
    smooth = fill_smoothly(photo.permute(0, 3, 1, 2).float() / 255 * (1 - mask), mask)
    assert (filled.permute(0, 3, 1, 2) - smooth * 255).abs().max() <= 0.51
