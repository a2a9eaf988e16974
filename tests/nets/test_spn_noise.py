"""What noise does to the probabilistic SPN: samples differ by it, as mean and deviation say."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nets.spn.network import SPN
from tests.nets.pictures import make_masked_pictures
from tests.nets.test_spn import PAPER, SMALL, probabilistic


@torch.no_grad()
def test_samples_of_one_hole_differ_with_their_noise_and_follow_each_other() -> None:
    network, (image, mask) = probabilistic(), make_masked_pictures(64)
    noise = 5 * torch.randn(3, 2, *network.get_noise_shape(image))
    together = network(image, mask, noise.flatten(0, 1))
    assert together["predicted"].shape == (6, 3, 64, 64)
    for sample, own in enumerate(noise):
        alone = network(image, mask, own)
        assert torch.allclose(together["inpainted"][2 * sample : 2 * sample + 2], alone["inpainted"], atol=1e-4)
    first, second, third = together["predicted"].chunk(3)
    assert (first - second).abs().max() > 1e-4
    assert (second - third).abs().max() > 1e-4


@torch.no_grad()
def test_without_noise_the_latent_map_is_the_mean_of_the_posterior() -> None:
    network, (image, mask) = probabilistic(), make_masked_pictures(32)
    none = torch.zeros(2, *network.get_noise_shape(image))
    assert torch.equal(network(image, mask)["predicted"], network(image, mask, none)["predicted"])


@torch.no_grad()
def test_noise_is_scaled_by_the_deviation_and_moved_by_the_mean() -> None:
    module = probabilistic().prior.variational
    assert module is not None
    seen: list[Tensor] = []
    module.decoder[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    deep, noise = torch.rand(2, 32, 8, 8), torch.randn(4, 16, 1, 1)
    _, posterior = module(deep, noise)
    mean, deviation = posterior["mean"], posterior["deviation"]
    assert (deviation > 0).all()
    for sample in range(4):
        picture = sample % 2
        assert torch.allclose(seen[0][sample], mean[picture] + deviation[picture] * noise[sample])


def test_the_papers_noise_is_128_channels_of_8_by_8() -> None:
    with torch.device("meta"):
        assert SPN(replace(PAPER, probabilistic=True)).get_noise_shape(torch.empty(1, 3, 256, 256)) == (128, 8, 8)


def test_noise_for_a_deterministic_network_is_refused() -> None:
    with pytest.raises(ValueError, match="noise is given to a deterministic network"):
        SPN(SMALL)(*make_masked_pictures(32), torch.zeros(2, 16, 1, 1))


@pytest.mark.parametrize("number", [0, 1, 3])
def test_noise_for_another_number_of_pictures_is_refused(number: int) -> None:
    network, (image, mask) = probabilistic(), make_masked_pictures(32)
    with pytest.raises(ValueError, match=rf"noise of shape \({number}, .* for 2 pictures: give 16x1x1 for each sample"):
        network(image, mask, torch.zeros(number, *network.get_noise_shape(image)))


def test_noise_of_another_size_is_refused_and_not_spread() -> None:
    network, (image, mask) = probabilistic(), make_masked_pictures(64)
    with pytest.raises(ValueError, match="give 16x2x2 for each sample"):
        network(image, mask, torch.zeros(2, 16, 1, 1))
