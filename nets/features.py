"""Feature maps of networks trained on ImageNet, for perceptual and style losses and LPIPS.

In: pictures N3HW in [0, 1] and a state dict in torchvision's key layout (`features.<i>.weight|bias`; it may hold more).
Out: maps by the names of their layers. The networks are plain torch, without torchvision. No activation overwrites a
requested map, and layers below the deepest requested one are neither built nor run.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import torch
from torch import Tensor, nn

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_VGG_WIDTHS: Final = (64, 128, 256, 512, 512)
_VGG_CONVOLUTIONS: Final = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions of each block, by depth (Simonyan and Zisserman, ICLR 2015, Table 1, columns D and E)."""
_ALEXNET: Final = (
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)
"""Width, kernel, stride and padding of each convolution, and whether pooling follows (Krizhevsky, arXiv 1404.5997)."""


class PretrainedFeatures(nn.Module):
    """Chain of named layers up to the deepest requested one, with the weights of a state dict, never trained."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, chain: Mapping[str, nn.Module], layers: Sequence[str], state: Mapping[str, Tensor], normalize: bool
    ) -> None:
        super().__init__()
        names = list(chain)
        for name in layers:
            if name not in chain:
                raise ValueError(f"unknown layer {name!r}: use one of {', '.join(names)}")
        if not layers:
            raise ValueError(f"layers is empty: use one or more of {', '.join(names)}")
        self.names = names[: 1 + max(map(names.index, layers))]
        self.layers = frozenset(layers)
        self.features = nn.Sequential(*(chain[name] for name in self.names))
        load_pretrained(self, state, type(self).__name__)
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.normalize = normalize

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """N3HW in [0, 1] -> the requested maps N C h w, by name."""
        x, maps = (image - self.mean) / self.std if self.normalize else image, {}
        for name, layer in zip(self.names, self.features, strict=True):
            x = layer(x)
            if name in self.layers:
                maps[name] = x
        return maps


class VGGFeatures(PretrainedFeatures):
    """VGG-16 or VGG-19 without its classifier: layers `conv1_1`, `relu1_1` … `pool5`, maps halved by each pool.

    Raises ValueError if a layer is unknown, or a tensor is missing or has another shape.
    """

    def __init__(
        self, depth: Literal[16, 19], layers: Sequence[str], state: Mapping[str, Tensor], *, normalize: bool = True
    ) -> None:
        super().__init__(_build_vgg_chain(_VGG_CONVOLUTIONS[depth], layers), layers, state, normalize)


class AlexNetFeatures(PretrainedFeatures):
    """AlexNet without its classifier: layers `conv1`, `relu1`, `pool1`, `conv2` … `relu5`, `pool5`.

    Raises ValueError if a layer is unknown, or a tensor is missing or has another shape.
    """

    def __init__(self, layers: Sequence[str], state: Mapping[str, Tensor], *, normalize: bool = True) -> None:
        super().__init__(_build_alexnet_chain(layers), layers, state, normalize)


def get_vgg_shapes(depth: Literal[16, 19]) -> dict[str, Tensor]:
    """State dict of VGG's convolutions on torch's meta device: shapes without numbers."""
    with torch.device("meta"):
        chain = nn.Sequential(*_build_vgg_chain(_VGG_CONVOLUTIONS[depth], ()).values())
    return {f"features.{key}": tensor for key, tensor in chain.state_dict().items()}


def load_pretrained(network: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Load a network's weights from a state dict that may hold more, and freeze the network.

    Raises ValueError naming the tensor that is missing or of another shape.
    """
    needed = network.state_dict()
    for key, tensor in needed.items():
        if key not in state:
            raise ValueError(f"{name}: no tensor {key!r} among the {len(state)} given: use the file of this network")
        if state[key].shape != tensor.shape:
            shapes = f"{tuple(state[key].shape)}, not {tuple(tensor.shape)}"
            raise ValueError(f"{name}: {key} has the shape {shapes}: use the file of this network")
    network.load_state_dict({key: state[key] for key in needed})
    network.requires_grad_(False).eval()


def _build_vgg_chain(convolutions: Sequence[int], layers: Sequence[str]) -> dict[str, nn.Module]:
    chain: dict[str, nn.Module] = {}
    channels = 3
    for block, (count, width) in enumerate(zip(convolutions, _VGG_WIDTHS, strict=True), start=1):
        for number in range(1, count + 1):
            convolution = f"conv{block}_{number}"
            chain[convolution] = nn.Conv2d(channels, width, 3, padding=1)
            chain[f"relu{block}_{number}"] = _build_relu(convolution, layers)
            channels = width
        chain[f"pool{block}"] = nn.MaxPool2d(2)
    return chain


def _build_alexnet_chain(layers: Sequence[str]) -> dict[str, nn.Module]:
    chain: dict[str, nn.Module] = {}
    channels = 3
    for number, (width, kernel, stride, padding, pooled) in enumerate(_ALEXNET, start=1):
        chain[f"conv{number}"] = nn.Conv2d(channels, width, kernel, stride, padding)
        chain[f"relu{number}"] = _build_relu(f"conv{number}", layers)
        if pooled:
            chain[f"pool{number}"] = nn.MaxPool2d(3, stride=2)
        channels = width
    return chain


def _build_relu(convolution: str, layers: Sequence[str]) -> nn.ReLU:
    """Build a ReLU, in place to save memory unless it would overwrite a requested map."""
    return nn.ReLU(inplace=convolution not in layers)
