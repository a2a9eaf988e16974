"""The authors' checkpoints: a state dict with their keys and shapes gives a network that computes what theirs does."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nets.deepgin.network import DeepGIN, DeepGINConfig
from nets.deepgin.published import load_published, load_published_critics

State = dict[str, Tensor]
COARSE_DILATIONS = (2, 3, 4, 5, 6, 8, 10, 1)


def list_shapes(channels_in: int = 4, w: int = 32) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the weights of `latest_net_G.pth`: what the spec's tables say, in the authors' names."""
    t = "lr_coarse_tinker"
    convs = {f"{t}.1": (w, channels_in, 7), f"{t}.31": (3, w, 7)}
    convs |= {f"{t}.{4 + 3 * n}": (w << n + 1, w << n, 4) for n in range(3)}
    convs |= {f"{t}.{20 + 4 * n}": (w * 4 >> n, w * 8 >> n, 3) for n in range(3)}
    for n in range(6):
        convs |= {f"{t}.{12 + n}.branch{b}.conv": (w, w * 8, 3) for b in range(1, 9)}
        convs |= {f"{t}.{12 + n}.fusion9.conv": (w * 8, w * 8, 3)}
        convs |= {f"r_md_mres{n + 1}.branch{b}.conv": (w * 4, w * 16, 3) for b in range(1, 5)}
        convs |= {f"r_md_mres{n + 1}.fusion5.conv": (w * 16, w * 16, 3)}
    convs |= {"r_en_conv1": (w, channels_in, 7)} | {f"r_en_conv{n + 2}": (w << n + 1, w << n, 4) for n in range(4)}
    convs |= {"r_en_skp_conv3": (w * 2, w * 4, 3), "r_en_skp_conv4": (w * 4, w * 8, 3)}
    convs |= {f"r_de_conv{n + 1}": (w * 8 >> n, w * 16 >> n, 3) for n in range(4)}
    convs |= {"r_de_mix_conv1": (w * 8, w * 12, 3), "r_de_mix_conv2": (w * 4, w * 6, 3)}
    convs |= {"r_de_conv2_lr": (w, w * 4, 3), "r_de_conv3_lr": (3, w, 3)}
    convs |= {"r_de_conv5": (3, w, 7), "r_de_conv5_lr_alpha": (1, w, 3)}
    for name, channels in (("r_md_satn1", w * 16), ("r_de_satn2", w * 4), ("r_de_satn3", w * 2)):
        convs |= {f"{name}.{layer}": (channels // 2, channels, 1) for layer in ("theta", "phi", "g")}
        convs |= {f"{name}.W": (channels, channels // 2, 1)}
    return {name: (out, into, kernel, kernel) for name, (out, into, kernel) in convs.items()}


def make_published(channels_in: int = 4) -> State:
    """A random checkpoint whose maps neither vanish nor explode."""
    generator, state = torch.Generator().manual_seed(0), {}
    for name, shape in list_shapes(channels_in).items():
        scale = 0.7 / torch.Size(shape[1:]).numel() ** 0.5
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * scale
        state[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    return state


class Theirs:
    """What the authors' network computes, by the spec's section 3, straight from their state dict."""

    def __init__(self, state: State) -> None:
        self.state = state

    def conv(self, name: str, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        kernel = weight.shape[2]
        padding = dilation * (kernel - 1) // 2
        return F.conv2d(F.pad(x, (padding,) * 4, mode="replicate"), weight, bias, stride, dilation=dilation)

    def act(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        return F.leaky_relu(self.conv(name, x, stride), 0.2)

    def up(self, name: str, x: Tensor) -> Tensor:
        return self.act(name, F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))

    def block(self, name: str, x: Tensor, dilations: tuple[int, ...]) -> Tensor:
        branches = [self.conv(f"{name}.branch{b}.conv", x, dilation=d).relu() for b, d in enumerate(dilations, 1)]
        return x + self.conv(f"{name}.fusion{len(dilations) + 1}.conv", torch.cat(branches, dim=1))

    def attention(self, name: str, x: Tensor) -> Tensor:
        theta, phi, g = (self.conv(f"{name}.{layer}", x).flatten(2) for layer in ("theta", "phi", "g"))
        mixed = g @ (theta.mT @ phi).softmax(dim=2).mT
        return x + self.conv(f"{name}.W", mixed.view(x.shape[0], -1, *x.shape[2:]))

    def coarse(self, x: Tensor) -> Tensor:
        t = "lr_coarse_tinker"
        x = self.act(f"{t}.1", x)
        for index in (4, 7, 10):
            x = self.act(f"{t}.{index}", x, stride=2)
        for index in range(12, 18):
            x = self.block(f"{t}.{index}", x, COARSE_DILATIONS)
        for index in (20, 24, 28):
            x = self.up(f"{t}.{index}", x)
        return self.conv(f"{t}.31", x)

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """First guess and prediction."""
        known = image * (1 - mask)
        guess = self.coarse(torch.cat([known + mask, mask], dim=1))
        e = [self.act("r_en_conv1", torch.cat([guess * mask + known, mask], dim=1))]
        for number in range(2, 6):
            e.append(self.act(f"r_en_conv{number}", e[-1], stride=2))
        x = e[4]
        for number in (1, 2, 5):
            x = self.block(f"r_md_mres{number}", x, (2, 3, 4, 5))
        x = self.attention("r_md_satn1", x)
        for number in (3, 4, 6):
            x = self.block(f"r_md_mres{number}", x, (2, 3, 4, 5))
        skip4 = self.attention("r_de_satn2", self.act("r_en_skp_conv4", e[3]))
        skip3 = self.attention("r_de_satn3", self.act("r_en_skp_conv3", e[2]))
        x = self.act("r_de_mix_conv1", torch.cat([self.up("r_de_conv1", x), skip4], dim=1))
        x = self.act("r_de_mix_conv2", torch.cat([self.up("r_de_conv2", x), skip3], dim=1))
        low = self.conv("r_de_conv3_lr", self.act("r_de_conv2_lr", x))
        x = self.up("r_de_conv4", self.up("r_de_conv3", x))
        detail = self.conv("r_de_conv5", x) * mask + known
        reduced = F.interpolate(detail, size=low.shape[2:], mode="bilinear", align_corners=True)
        residual = F.interpolate(low - reduced, size=detail.shape[2:], mode="bilinear", align_corners=True)
        return guess, detail + residual * torch.sigmoid(self.conv("r_de_conv5_lr_alpha", x))


def test_the_checkpoint_has_the_parameters_of_the_paper() -> None:
    assert sum(torch.Size(s).numel() + s[0] for s in list_shapes().values()) == 42_930_186


@torch.no_grad()
def test_the_network_computes_what_theirs_does() -> None:
    state = make_published()
    image, mask = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 4:20] = 1
    outputs, (coarse, predicted) = load_published(state)(image, mask), Theirs(state)(image, mask)
    assert predicted.std() > 0.05
    assert torch.allclose(outputs["coarse"], coarse, atol=1e-4)
    assert torch.allclose(outputs["predicted"], predicted, atol=1e-4)


def test_a_checkpoint_of_several_devices_is_the_same() -> None:
    state = make_published()
    prefixed = load_published({f"module.{key}": tensor for key, tensor in state.items()}).state_dict()
    assert all(torch.equal(tensor, prefixed[key]) for key, tensor in load_published(state).state_dict().items())


def test_seven_channels_are_track_2() -> None:
    assert load_published(make_published(7)).config.segmentation


def test_every_tensor_of_ours_comes_from_theirs() -> None:
    loaded, fresh = load_published(make_published()).state_dict(), DeepGIN(DeepGINConfig()).state_dict()
    assert all(not torch.equal(loaded[key], fresh[key]) for key in fresh)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"r_en_conv1.weight": None}, r"it lacks r_en_conv1.weight \(1 in all\)"),
        ({"model.0.weight": torch.zeros(1)}, r"it has unknown model.0.weight \(1 in all\)"),
        ({"r_de_conv5.bias": torch.zeros(4)}, r"size mismatch for refinement.detail_head.bias"),
    ],
)
def test_another_state_dict_is_refused_by_its_tensors(change: dict[str, Tensor | None], words: str) -> None:
    state = {key: tensor for key, tensor in (make_published() | change).items() if tensor is not None}
    with pytest.raises(ValueError, match=f"(?s)not a published generator of DeepGIN: .*{words}"):
        load_published(state)


def make_published_critics(width: int = 64, *, matching: bool = False) -> State:
    """A random `latest_net_D.pth`: weights, their leading singular vectors, biases; one list of layers or modules."""
    generator, state = torch.Generator().manual_seed(1), {}
    channels = (6, width, width * 2, width * 4, width * 4)
    for critic in range(2):
        for number, (into, out) in enumerate(pairwise(channels)):
            layer = f"scale{critic}_layer{number}.0" if matching else f"layer{critic}.{2 * number}"
            weight = torch.randn(out, into, 4, 4, generator=generator)
            left, _, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
            state[f"{layer}.module.bias"] = torch.randn(out, generator=generator) * 0.1
            state[f"{layer}.module.weight_u"], state[f"{layer}.module.weight_v"] = left[:, 0], right[0]
            state[f"{layer}.module.weight_bar"] = weight
    return state


def compute_their_scores(state: State, critic: int, x: Tensor) -> Tensor:
    """What one of the authors' critics computes, by the spec's section 3.4."""
    for number, stride in enumerate((2, 2, 1, 1)):
        name = f"layer{critic}.{2 * number}.module"
        weight = state[f"{name}.weight_bar"]
        norm = torch.linalg.matrix_norm(weight.flatten(1), 2)
        x = F.conv2d(x if number == 0 else F.leaky_relu(x, 0.2), weight / norm, state[f"{name}.bias"], stride, 2)
    return x


def test_the_critics_have_the_parameters_of_the_paper() -> None:
    sizes = {name: tensor.numel() for name, tensor in make_published_critics().items()}
    assert sum(size for name, size in sizes.items() if name.endswith(("bias", "weight_bar"))) == 3_421_568


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_the_critics_compute_what_theirs_do(training: bool) -> None:
    state, generator = make_published_critics(8), torch.Generator().manual_seed(2)
    masked, image = torch.rand(2, 2, 3, 32, 32, generator=generator)
    pair = torch.cat([masked, image], dim=1)
    halved = F.avg_pool2d(pair, 3, stride=2, padding=1, count_include_pad=False)
    whole, half = load_published_critics(state).train(training)(masked, image)
    assert torch.allclose(whole, compute_their_scores(state, 1, pair), atol=1e-5)
    assert torch.allclose(half, compute_their_scores(state, 0, halved), atol=1e-5)
    assert whole.std() > 0.01


def test_critics_that_were_trained_with_feature_matching_are_the_same() -> None:
    plain, matching = (
        load_published_critics(make_published_critics(8, matching=m)).state_dict() for m in (False, True)
    )
    assert all(torch.equal(tensor, matching[key]) for key, tensor in plain.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer0.6.module.weight_u": None}, r"it lacks layer0.6.module.weight_u \(1 in all\)"),
        ({"layer2.0.module.bias": torch.zeros(8)}, r"it has unknown layer2.0.module.bias \(1 in all\)"),
        ({"layer1.2.module.bias": torch.zeros(8)}, r"size mismatch for scales.0.2.bias"),
    ],
)
def test_other_critics_are_refused_by_their_tensors(change: dict[str, Tensor | None], words: str) -> None:
    state = {key: tensor for key, tensor in (make_published_critics(8) | change).items() if tensor is not None}
    with pytest.raises(ValueError, match=f"(?s)not a published critics of DeepGIN: .*{words}"):
        load_published_critics(state)
