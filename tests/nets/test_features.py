"""Features of pretrained networks: layers by name, weights from the right keys, and no map rectified after the fact."""

import re

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nets.features import IMAGENET_MEAN, IMAGENET_STD, AlexNetFeatures, VGGFeatures
from tests.weights import REAL, random_alexnet, random_vgg, real_weights

INDICES = {
    16: {"conv1_1": 0, "relu1_2": 3, "pool1": 4, "conv2_1": 5, "relu2_2": 8, "pool2": 9, "relu3_3": 15, "conv4_1": 17,
         "relu4_3": 22, "conv5_1": 24, "relu5_1": 25, "pool5": 30},
    19: {"conv1_1": 0, "pool1": 4, "conv2_1": 5, "conv3_1": 10, "pool3": 18, "conv4_1": 19, "relu4_1": 20, "pool4": 27,
         "conv5_1": 28, "relu5_1": 29, "pool5": 36},
}  # fmt: skip
"""Where torchvision has these layers in `features`."""


def make_picture(number: int = 2, size_px: int = 32) -> Tensor:
    return torch.rand(number, 3, size_px, size_px, generator=torch.Generator().manual_seed(size_px))


def run_vgg_by_hand(state: dict[str, Tensor], x: Tensor, until: int) -> Tensor:
    """The output of torchvision's layer of this index; a ReLU follows a convolution, then comes one more or a pool."""
    index = 0
    while True:
        if f"features.{index}.weight" in state:
            x = F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1)
        elif f"features.{index - 1}.weight" in state:
            x = x.clamp(min=0)
        else:
            x = F.max_pool2d(x, 2)
        if index == until:
            return x
        index += 1


@pytest.mark.parametrize("depth", [16, 19])
def test_layers_have_the_indices_of_torchvision(depth: int) -> None:
    state, x = random_vgg(depth), make_picture()
    maps = VGGFeatures(depth, tuple(INDICES[depth]), state, normalize=False)(x)  # type: ignore[arg-type]
    assert set(maps) == set(INDICES[depth])
    for name, index in INDICES[depth].items():
        assert torch.allclose(maps[name], run_vgg_by_hand(state, x, index), atol=1e-4), name


@pytest.mark.parametrize(("depth", "count"), [(16, 14_714_688), (19, 20_024_384)])
def test_vgg_has_the_parameters_of_torchvision(depth: int, count: int) -> None:
    network = VGGFeatures(depth, ("pool5",), random_vgg(depth))  # type: ignore[arg-type]
    assert sum(p.numel() for p in network.parameters()) == count


def test_alexnet_is_its_five_convolutions() -> None:
    state, x = random_alexnet(), make_picture(1, 64)
    maps = AlexNetFeatures(("relu1", "conv3", "pool5"), state, normalize=False)(x)
    w = {i: (state[f"features.{i}.weight"], state[f"features.{i}.bias"]) for i in (0, 3, 6, 8, 10)}
    one = F.conv2d(x, *w[0], stride=4, padding=2).relu()
    two = F.conv2d(F.max_pool2d(one, 3, 2), *w[3], padding=2).relu()
    three = F.conv2d(F.max_pool2d(two, 3, 2), *w[6], padding=1)
    last = F.conv2d(F.conv2d(three.relu(), *w[8], padding=1).relu(), *w[10], padding=1).relu()
    for name, by_hand in {"relu1": one, "conv3": three, "pool5": F.max_pool2d(last, 3, 2)}.items():
        assert torch.allclose(maps[name], by_hand, atol=1e-4), name


def test_a_map_before_its_activation_keeps_its_negative_values() -> None:
    layers = ("conv1_1", "relu1_1", "conv2_1")
    maps = VGGFeatures(16, layers, random_vgg(16))(make_picture())
    assert (maps["conv1_1"] < 0).any()
    assert torch.equal(maps["conv1_1"].clamp(min=0), maps["relu1_1"])


def test_what_is_asked_for_beside_a_map_does_not_change_it() -> None:
    alone = VGGFeatures(19, ("conv3_1",), random_vgg(19))(make_picture())["conv3_1"]
    among = VGGFeatures(19, ("pool3", "conv3_1", "relu1_1", "conv1_1"), random_vgg(19))(make_picture())["conv3_1"]
    assert torch.equal(alone, among)


def test_nothing_deeper_than_asked_for_is_built_or_wanted() -> None:
    shallow = {key: tensor for key, tensor in random_vgg(19).items() if int(key.split(".")[1]) < 5}
    network = VGGFeatures(19, ("relu1_2", "pool1"), shallow)
    assert set(network.state_dict()) == set(shallow)
    with pytest.raises(ValueError, match=r"no tensor 'features.5.weight' among the 4 given"):
        VGGFeatures(19, ("conv2_1",), shallow)


def test_pictures_are_normalized_by_the_statistics_of_imagenet() -> None:
    x = make_picture()
    by_hand = torch.stack([(x[:, c] - IMAGENET_MEAN[c]) / IMAGENET_STD[c] for c in range(3)], dim=1)
    state = random_vgg(16)
    normalized = VGGFeatures(16, ("relu1_2",), state)(x)["relu1_2"]
    assert torch.allclose(
        normalized, VGGFeatures(16, ("relu1_2",), state, normalize=False)(by_hand)["relu1_2"], atol=1e-4
    )


def test_pictures_get_gradients_and_weights_none() -> None:
    network, x = VGGFeatures(16, ("conv1_2", "relu2_2"), random_vgg(16)), make_picture().requires_grad_()
    sum((m.square().mean() for m in network(x).values()), start=torch.zeros(())).backward()
    assert x.grad is not None and bool(x.grad.abs().sum() > 0)
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("layers", [("relu6_1",), ("conv1_1", "features.0")])
def test_an_unknown_layer_is_refused_with_those_there_are(layers: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=rf"unknown layer '{re.escape(layers[-1])}': use one of conv1_1, .*pool5"):
        VGGFeatures(16, layers, random_vgg(16))


def test_no_layer_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="layers is empty: use one or more of conv1, "):
        AlexNetFeatures((), random_alexnet())


def test_weights_of_another_network_are_refused_by_the_first_misfit() -> None:
    with pytest.raises(
        ValueError, match=r"VGGFeatures: features.0.weight has the shape \(64, 3, 11, 11\), not \(64, 3, 3, 3\)"
    ):
        VGGFeatures(16, ("conv1_1",), random_alexnet())
    with pytest.raises(ValueError, match=r"VGGFeatures: no tensor 'features.16.weight' among the 26"):
        VGGFeatures(19, ("conv3_4",), random_vgg(16))


@REAL
@pytest.mark.realdata
def test_real_vgg16_has_the_first_weights_of_torchvision() -> None:
    state = real_weights("vgg16_features")
    assert state["features.0.weight"].flatten()[:3].tolist() == pytest.approx([-0.5537, 0.1427, 0.5290], abs=1e-4)
    assert sum(tensor.numel() for tensor in state.values()) == 14_714_688
    assert VGGFeatures(16, ("pool5",), state)(make_picture(1, 64))["pool5"].shape == (1, 512, 2, 2)


@REAL
@pytest.mark.realdata
def test_real_alexnet_fits() -> None:
    maps = AlexNetFeatures(("relu1", "pool5"), real_weights("alexnet_features"))(make_picture(1, 64))
    assert {name: tuple(m.shape) for name, m in maps.items()} == {"relu1": (1, 64, 15, 15), "pool5": (1, 256, 1, 1)}
