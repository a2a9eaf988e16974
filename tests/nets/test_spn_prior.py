"""How the encoders, the prior learner and the decoders of SPN and SPL are put together, layer by layer."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.spn.network import SPL, SPN, ImageEncoder, SPLConfig, SPNConfig
from nets.spn.prior import DistillationHeads, PriorLearner, repeat_samples

SIZES = SPNConfig(4, 4, 2, 3, 2, 4, 2)


def seven(x: Tensor, layer: nn.Module) -> Tensor:
    """A 7x7 convolution padded with reflections."""
    assert isinstance(layer, nn.Conv2d)
    return F.conv2d(F.pad(x, (3, 3, 3, 3), mode="reflect"), layer.weight, layer.bias)


def halved(x: Tensor, layer: nn.Module) -> Tensor:
    """A 4x4 convolution of stride 2, padded with a zero."""
    assert isinstance(layer, nn.Conv2d)
    return F.conv2d(x, layer.weight, layer.bias, stride=2, padding=1)


def shuffled(x: Tensor, layer: nn.Module) -> Tensor:
    """A 3x3 convolution padded with a zero, and a pixel shuffle by index."""
    assert isinstance(layer, nn.Conv2d)
    y = F.conv2d(x, layer.weight, layer.bias, padding=1)
    n, channels, height, width = y.shape
    parts = y.reshape(n, channels // 4, 2, 2, height, width)
    return parts.permute(0, 1, 4, 2, 5, 3).reshape(n, channels // 4, 2 * height, 2 * width)


def picture_and_mask(size_px: int = 32) -> tuple[Tensor, Tensor]:
    return torch.rand(2, 3, size_px, size_px), (torch.rand(2, 1, size_px, size_px) > 0.6).float()


@torch.no_grad()
def test_the_image_encoder_is_the_codes() -> None:
    encoder, (picture, mask) = ImageEncoder(4), picture_and_mask()
    x = encoder.norms[0](seven(picture, encoder.layers[0]), mask).relu()
    for layer, norm in zip(encoder.layers[1:], encoder.norms[1:], strict=True):
        x = norm(halved(x, layer), mask).relu()
    assert x.shape == (2, 16, 8, 8)
    assert torch.allclose(encoder(picture, mask), x, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_the_prior_learner_is_the_codes(slope: float) -> None:
    learner, (masked, mask) = PriorLearner(SIZES, 3, slope=slope, variational=False), picture_and_mask(64)
    stem = F.leaky_relu(seven(torch.cat([masked, mask], 1), learner.stem), slope)
    encoded = [stem]
    for down in learner.downs:
        encoded.append(F.leaky_relu(halved(encoded[-1], down), slope))
    _, first, second, deepest = encoded
    dense = learner.dense
    made = [dense.first(deepest)]
    for block in dense.blocks:
        made.append(block(made[-1]))
    x = dense.fusion[1](dense.fusion[0](torch.cat(made[1:], 1))) + deepest
    priors = [learner.blocks(x)]
    for up, join, skip in zip(learner.ups, learner.joins, (second, first), strict=True):
        assert isinstance(up, nn.Sequential)
        priors.append(join(torch.cat([skip, shuffled(priors[-1], up[0]).relu()], 1)))
    ours = learner(masked, mask).priors
    assert [tuple(p.shape[1:]) for p in ours] == [(16, 8, 8), (8, 16, 16), (4, 32, 32)]
    assert all(torch.allclose(o, p, atol=1e-5) for o, p in zip(ours, priors, strict=True))


@torch.no_grad()
def test_the_variational_module_stands_between_dense_and_residual_blocks() -> None:
    learner, (masked, mask) = PriorLearner(SIZES, 3, slope=0.0, variational=True), picture_and_mask(64)
    module = learner.variational
    assert module is not None
    seen: list[Tensor] = []
    learner.dense.register_forward_hook(lambda *args: seen.append(args[2]))
    noise = torch.randn(4, 8, 1, 1)
    priors, posterior = learner(masked, mask, noise)
    x = seen[0]
    for down in module.encoder:
        x = F.leaky_relu(halved(x, down), 0.2)
    mean = F.conv2d(x, module.mean.weight, module.mean.bias)
    deviation = F.conv2d(x, module.deviation.weight, module.deviation.bias).exp().add(1).log()
    assert torch.allclose(posterior["mean"], mean, atol=1e-5)
    assert torch.allclose(posterior["deviation"], deviation, atol=1e-5)
    z = mean.repeat(2, 1, 1, 1) + deviation.repeat(2, 1, 1, 1) * noise
    for up in module.decoder:
        assert isinstance(up, nn.Sequential)
        z = shuffled(z, up[0]).relu()
    assert torch.allclose(priors[0], learner.blocks(torch.cat([seen[0].repeat(2, 1, 1, 1), z], 1)), atol=1e-5)


@torch.no_grad()
def test_spns_generator_is_the_codes() -> None:
    network, (image, mask) = SPN(SIZES), picture_and_mask()
    painted = image * (1 - mask) + mask
    three, two, one = network.prior(F.interpolate(painted, scale_factor=2), F.interpolate(mask, scale_factor=2)).priors
    x = network.encoder(painted, mask)
    for block in network.blocks:
        x = block(x, three)
    for up, prior in zip(network.ups, (two, one), strict=True):
        x = up(F.interpolate(x, scale_factor=2, mode="nearest"), prior)
    last = list(network.out.modules())[-1]
    drawn = seven(F.leaky_relu(x, 0.2), last)
    assert torch.allclose(network(image, mask)["predicted"], (drawn.tanh() + 1) / 2, atol=1e-5)


@torch.no_grad()
def test_spls_decoder_is_the_codes() -> None:
    network, (image, mask) = SPL(SPLConfig(4, 4, 2, 3, 2, 4, 2)), picture_and_mask()
    assert network.prior.slope == 0.1
    features: list[Tensor] = []
    network.blocks[-1].register_forward_hook(lambda *args: features.append(args[2]))
    predicted = network(image, mask)["predicted"]
    x = features[0]
    for up, norm in zip(network.ups, network.norms, strict=True):
        assert isinstance(up, nn.Sequential)
        x = norm(shuffled(x, up[0])).relu()
    assert torch.allclose(predicted, (seven(x, network.out).tanh() + 1) / 2, atol=1e-5)


def test_heads_are_linear_at_each_pixel() -> None:
    heads, prior = DistillationHeads(4, (5,)), torch.rand(2, 16, 3, 3)
    (told,) = heads([prior])
    weight, bias = (p.detach() for p in heads.parameters())
    assert torch.allclose(told, torch.einsum("oc,nchw->nohw", weight[..., 0, 0], prior) + bias.view(5, 1, 1), atol=1e-6)


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_a_learner_of_fewer_scales_has_the_same_deeper_priors(scales: int) -> None:
    whole, part = SPN(SIZES), SPN(replace(SIZES, num_scales=scales))
    part.prior.load_state_dict({k: whole.prior.state_dict()[k] for k in part.prior.state_dict()})
    image, mask = picture_and_mask()
    with torch.no_grad():
        outputs, fewer = whole(image, mask), part(image, mask)
    names = [name for name in fewer if name.startswith("prior")]
    assert names == ["prior_3", "prior_2", "prior_1"][:scales]
    assert all(torch.equal(fewer[name], outputs[name]) for name in names)


def test_samples_are_copied_one_batch_after_another() -> None:
    x = torch.arange(2.0).view(2, 1, 1, 1)
    assert repeat_samples(x, torch.empty(6, 3, 1, 1)).flatten().tolist() == [0, 1, 0, 1, 0, 1]
