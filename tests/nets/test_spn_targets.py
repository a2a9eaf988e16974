"""What priors are distilled from: the TResNet trunk and its published file, and every substitute."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nets.objective import Inputs
from nets.spn.network import SPN
from nets.spn.targets import MapsTarget, PriorTarget, Target, TResNetTarget, VGGTarget, enlarge_image, find_sobel_edges
from nets.spn.teacher import ActivatedNorm, BlurredHalving, TResNetTrunk, load_published_trunk, space_to_depth
from tests.nets.configs import TINY_SPN
from tests.nets.objectives import inputs
from tests.weights import random_network, random_tresnet, random_vgg

State = dict[str, Tensor]


def test_the_trunk_has_the_parameters_and_tensors_of_the_paper() -> None:
    with torch.device("meta"):
        trunk = TResNetTrunk()
    assert sum(p.numel() for p in trunk.parameters()) == 2_578_192
    assert len(trunk.state_dict()) == 136


def test_maps_of_512_pixels_have_the_papers_shapes() -> None:
    with torch.device("meta"):
        maps = TResNetTrunk()(torch.empty(1, 3, 512, 512))
    assert [tuple(m.shape[1:]) for m in maps] == [(152, 64, 64), (76, 128, 128), (76, 128, 128)]


def test_space_to_depth_has_the_colour_last() -> None:
    image = torch.rand(2, 3, 8, 12)
    deep = space_to_depth(image)
    assert deep.shape == (2, 48, 2, 3)
    for row in range(4):
        for column in range(4):
            for colour in range(3):
                channel = (row * 4 + column) * 3 + colour
                assert torch.equal(deep[:, channel], image[:, colour, row::4, column::4])


def norm(x: Tensor, state: State, name: str, slope: float) -> Tensor:
    """In-place activated normalisation as the published network has it: scaled by |weight| + eps."""
    shape = (1, -1, 1, 1)
    mean, variance = state[f"{name}.running_mean"].view(shape), state[f"{name}.running_var"].view(shape)
    scale = state[f"{name}.weight"].abs().view(shape) + 1e-5
    y = (x - mean) / (variance + 1e-5).sqrt() * scale + state[f"{name}.bias"].view(shape)
    return torch.where(y > 0, y, y * slope)


def block(x: Tensor, state: State, name: str, halved: bool) -> Tensor:
    """A basic block, from its description."""
    first = f"{name}.conv1.0" if halved else f"{name}.conv1"
    y = norm(F.conv2d(x, state[f"{first}.0.weight"], padding=1), state, f"{first}.1", 1e-3)
    shortcut = x
    if halved:
        row = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype)
        padded = F.pad(y, (1, 1, 1, 1), mode="reflect").unfold(2, 3, 2).unfold(3, 3, 2)
        y = torch.einsum("nchwij,i,j->nchw", padded, row, row)
        pooled = F.avg_pool2d(x, 2)
        shortcut = norm(F.conv2d(pooled, state[f"{name}.downsample.1.0.weight"]), state, f"{name}.downsample.1.1", 1.0)
    y = norm(F.conv2d(y, state[f"{name}.conv2.0.weight"], padding=1), state, f"{name}.conv2.1", 1.0)
    weights = [state[f"{name}.se.{fc}.weight"][..., 0, 0] for fc in ("fc1", "fc2")]
    biases = [state[f"{name}.se.{fc}.bias"] for fc in ("fc1", "fc2")]
    hidden = (y.mean((2, 3)) @ weights[0].T + biases[0]).relu()
    gate = torch.sigmoid(hidden @ weights[1].T + biases[1])
    return (shortcut + y * gate[..., None, None]).relu()


def test_the_published_weights_give_the_published_network() -> None:
    state, image = random_tresnet(), torch.rand(1, 3, 32, 40)
    doubles = {k.removeprefix("body."): t.double() for k, t in state.items()}
    conv1 = norm(
        F.conv2d(space_to_depth(image).double(), doubles["conv1.0.weight"], padding=1), doubles, "conv1.1", 0.01
    )
    layer1 = conv1
    for number in range(4):
        layer1 = block(layer1, doubles, f"layer1.{number}", halved=False)
    layer2 = layer1
    for number in range(5):
        layer2 = block(layer2, doubles, f"layer2.{number}", halved=number == 0)
    maps = load_published_trunk(state)(image)
    for ours, reference in zip(maps, (layer2, layer1, conv1), strict=True):
        assert ours.shape == reference.shape
        assert torch.allclose(ours.double(), reference, rtol=1e-3, atol=1e-3 * float(reference.abs().max()))


def test_a_negative_scale_of_the_published_file_scales_by_its_size() -> None:
    state = random_tresnet()
    trunk = load_published_trunk(state)
    norm = trunk.conv1[1]
    assert isinstance(norm, ActivatedNorm)
    assert (state["body.conv1.1.weight"] < 0).any()
    assert torch.equal(norm.weight, state["body.conv1.1.weight"].abs() + 1e-5)
    assert torch.equal(trunk.state_dict()["layer1.0.se.fc1.bias"], state["body.layer1.0.se.fc1.bias"])


def test_a_file_without_a_tensor_of_the_trunk_is_refused() -> None:
    state = {k: t for k, t in random_tresnet().items() if k != "body.layer2.3.se.fc1.bias"}
    with pytest.raises(ValueError, match=r"TResNet-L: no tensor 'layer2.3.se.fc1.bias'"):
        load_published_trunk(state)


def test_a_file_of_another_width_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"TResNet-L: conv1.0.weight has the shape \(8, 48, 3, 3\), not \(76, 48, 3, 3\)"
    ):
        load_published_trunk(random_tresnet(8))


def test_the_blur_keeps_a_flat_picture_and_halves_it() -> None:
    assert torch.allclose(BlurredHalving(3)(torch.full((1, 3, 8, 10), 0.7)), torch.full((1, 3, 4, 5), 0.7))


TARGETS: dict[str, Target] = {
    "tresnet": TResNetTarget(),
    "random": TResNetTarget(None, 8),
    "vgg": VGGTarget(),
    "prior": PriorTarget("spn", TINY_SPN),
    "edges": MapsTarget(),
}
WEIGHTS = {
    "tresnet_l_openimages": random_tresnet(),
    "vgg16_features": random_vgg(16),
    "spn": random_network(SPN(TINY_SPN)),
}
EACH = pytest.mark.parametrize("name", TARGETS)


def maps_of(name: str, of: Inputs) -> list[Tensor]:
    target = TARGETS[name]
    assert set(target.needs_weights) <= set(WEIGHTS)
    with torch.no_grad():
        maps: list[Tensor] = target.build(WEIGHTS).eval()(of)
    return maps


@EACH
def test_a_target_has_the_channels_it_says_from_the_deepest_scale_to_the_finest(name: str) -> None:
    maps = maps_of(name, inputs(size_px=32))
    assert tuple(m.shape[1] for m in maps) == TARGETS[name].channels
    finest = 16 if name in ("tresnet", "random") else 32  # TResNet has no map as large as the picture
    assert [m.shape[2] for m in maps] == [8, 16, finest]
    assert all(torch.isfinite(m).all() for m in maps)


@EACH
def test_a_target_is_that_of_the_whole_picture_whatever_the_mask(name: str) -> None:
    of = inputs(size_px=32)
    before = maps_of(name, of)
    masked = maps_of(name, replace(of, mask=1 - of.mask))
    other = maps_of(name, replace(of, image=of.image.flip(3)))
    assert all(torch.equal(m, b) for m, b in zip(masked, before, strict=True))
    assert not any(torch.equal(o, b) for o, b in zip(other, before, strict=True))


@EACH
def test_the_large_picture_is_seen_where_there_is_one(name: str) -> None:
    of, large = inputs(size_px=32), torch.rand(2, 3, 64, 64)
    without = maps_of(name, of)
    given = maps_of(name, replace(of, planes={"image_large": large}))
    darker = maps_of(name, replace(of, image=of.image / 2, planes={"image_large": large}))
    assert not any(torch.equal(w, g) for w, g in zip(without, given, strict=True))
    assert all(torch.equal(g, d) for g, d in zip(given, darker, strict=True))


def test_a_random_teacher_is_the_same_whatever_was_drawn_before_and_changes_nothing_that_is_drawn_after() -> None:
    target, drawn, states = TResNetTarget(None, 8), [], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(target.build({}).state_dict())
        drawn.append(torch.rand(1))
        torch.manual_seed(seed)
        assert torch.equal(torch.rand(1), drawn[-1])
    assert all(torch.equal(first, states[1][key]) for key, first in states[0].items())


def test_without_a_large_picture_the_image_is_enlarged_bilinearly() -> None:
    ramp = torch.linspace(0, 1, 8).expand(1, 3, 8, 8)
    doubled = enlarge_image(replace(inputs(), image=ramp))
    assert doubled.shape == (1, 3, 16, 16)
    assert torch.allclose(doubled[0, 0, 3, 1:15].diff(), torch.full((13,), 1 / 14), atol=1e-6)


def test_priors_of_a_trained_network_are_what_it_learned_of_the_whole_picture() -> None:
    network = SPN(TINY_SPN)
    network.load_state_dict(WEIGHTS["spn"])
    large = torch.rand(1, 3, 64, 64)
    of = Inputs(torch.rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32), inputs().noise, {"image_large": large})
    with torch.no_grad():
        priors = network.prior(large, torch.zeros(1, 1, 64, 64)).priors
    assert all(torch.equal(p, m) for p, m in zip(priors, maps_of("prior", of), strict=True))


def test_edges_are_steps_of_brightness() -> None:
    image = torch.zeros(1, 3, 8, 8)
    image[..., 4:] = 1
    edges = find_sobel_edges(image)
    assert torch.allclose(edges[0, 0, :, 3:5], torch.ones(8, 2))
    assert edges[0, 0, :, :3].max() < 1e-5
    assert torch.allclose(find_sobel_edges(image.mT), edges.mT)
    assert torch.allclose(find_sobel_edges(image / 4)[0, 0, :, 3], torch.full((8,), 0.25))


def test_edges_that_come_with_the_photo_are_taken_as_they_are() -> None:
    plane = torch.rand(2, 1, 32, 32)
    maps = maps_of("edges", replace(inputs(size_px=32), planes={"edge": plane}))
    assert torch.equal(maps[2], plane)
    assert torch.allclose(maps[0], F.avg_pool2d(plane, 4))


@pytest.mark.parametrize(("there", "said"), [(3, 1), (1, 3)])
def test_a_plane_of_other_channels_is_refused_and_not_spread(there: int, said: int) -> None:
    given = replace(inputs(size_px=32), planes={"depth": torch.rand(2, there, 32, 32)})
    with pytest.raises(ValueError, match=rf"'depth' has {there} channels.*channels_of_plane"):
        MapsTarget("depth", said).build({})(given)


def test_a_plane_that_no_batch_has_is_named() -> None:
    target = MapsTarget("depth", 1).build({})
    with pytest.raises(ValueError, match="the target is the plane 'depth', which no batch has"):
        target(inputs())
