"""Feature maps of networks that were trained on ImageNet: what perceptual and style losses and LPIPS compare.

In: pictures N3HW in [0, 1] and a state dict in torchvision's key layout (`features.<i>.weight|bias`; it may hold more).
Out: maps by the names of their layers. A file of its own because several papers look at the same two networks, in
plain torch: torchvision itself is not needed. No activation overwrites a map that was asked for, and nothing deeper
than the deepest of them is built or run.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import torch
from torch import Tensor, nn

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_VGG_WIDTHS: Final = (64, 128, 256, 512, 512)
_VGG_CONVOLUTIONS: Final = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Of each block, by depth (Simonyan and Zisserman, ICLR 2015, Table 1, columns D and E)."""
_ALEXNET: Final = (
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)
"""Width, kernel, stride and padding of each convolution, and whether pooling follows (Krizhevsky, arXiv 1404.5997)."""


class PretrainedFeatures(nn.Module):
    """A chain of named layers up to the deepest that is asked for, with the weights of a state dict, never trained."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, chain: Mapping[str, nn.Module], layers: Sequence[str], state: Mapping[str, Tensor], normalise: bool
    ) -> None:
        super().__init__()
        names = list(chain)
        for name in layers:
            if name not in chain:
                raise ValueError(f"unknown layer {name!r}: known are {', '.join(names)}")
        if not layers:
            raise ValueError(f"layers is empty: take at least one of {', '.join(names)}")
        self.names = names[: 1 + max(map(names.index, layers))]
        self.layers = frozenset(layers)
        self.features = nn.Sequential(*(chain[name] for name in self.names))
        load_pretrained(self, state, type(self).__name__)
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.normalise = normalise

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """N3HW in [0, 1] -> the maps that were asked for, N C h w, by name."""
        x, maps = (image - self.mean) / self.std if self.normalise else image, {}
        for name, layer in zip(self.names, self.features, strict=True):
            x = layer(x)
            if name in self.layers:
                maps[name] = x
        return maps


class VGGFeatures(PretrainedFeatures):
    """VGG-16 or VGG-19 without its classifier: layers `conv1_1`, `relu1_1` … `pool5`, maps halved by each pool.

    Raises ValueError where a layer is unknown, or a tensor lacks or has another shape.
    """

    def __init__(
        self, depth: Literal[16, 19], layers: Sequence[str], state: Mapping[str, Tensor], *, normalise: bool = True
    ) -> None:
        super().__init__(_vgg_chain(_VGG_CONVOLUTIONS[depth], layers), layers, state, normalise)


class AlexNetFeatures(PretrainedFeatures):
    """AlexNet without its classifier: layers `conv1`, `relu1`, `pool1`, `conv2` … `relu5`, `pool5`.

    Raises ValueError where a layer is unknown, or a tensor lacks or has another shape.
    """

    def __init__(self, layers: Sequence[str], state: Mapping[str, Tensor], *, normalise: bool = True) -> None:
        super().__init__(_alexnet_chain(layers), layers, state, normalise)


def get_vgg_shapes(depth: Literal[16, 19]) -> dict[str, Tensor]:
    """What a file of its weights holds, on torch's meta device: shapes without numbers."""
    with torch.device("meta"):
        chain = nn.Sequential(*_vgg_chain(_VGG_CONVOLUTIONS[depth], ()).values())
    return {f"features.{key}": tensor for key, tensor in chain.state_dict().items()}


def load_pretrained(network: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Gives a network its weights out of a state dict that may hold more, and freezes it.

    Raises ValueError saying which tensor lacks, or has which shape instead of which.
    """
    wanted = network.state_dict()
    for key, tensor in wanted.items():
        if key not in state:
            raise ValueError(
                f"{name}: no tensor {key!r} among the {len(state)} given: is it the file of another network?"
            )
        if state[key].shape != tensor.shape:
            shapes = f"{tuple(state[key].shape)}, not {tuple(tensor.shape)}"
            raise ValueError(f"{name}: {key} has the shape {shapes}: is it the file of another network?")
    network.load_state_dict({key: state[key] for key in wanted})
    network.requires_grad_(False).eval()


def _vgg_chain(convolutions: Sequence[int], layers: Sequence[str]) -> dict[str, nn.Module]:
    chain: dict[str, nn.Module] = {}
    channels = 3
    for block, (count, width) in enumerate(zip(convolutions, _VGG_WIDTHS, strict=True), start=1):
        for number in range(1, count + 1):
            convolution = f"conv{block}_{number}"
            chain[convolution] = nn.Conv2d(channels, width, 3, padding=1)
            chain[f"relu{block}_{number}"] = _relu_after(convolution, layers)
            channels = width
        chain[f"pool{block}"] = nn.MaxPool2d(2)
    return chain


def _alexnet_chain(layers: Sequence[str]) -> dict[str, nn.Module]:
    chain: dict[str, nn.Module] = {}
    channels = 3
    for number, (width, kernel, stride, padding, pooled) in enumerate(_ALEXNET, start=1):
        chain[f"conv{number}"] = nn.Conv2d(channels, width, kernel, stride, padding)
        chain[f"relu{number}"] = _relu_after(f"conv{number}", layers)
        if pooled:
            chain[f"pool{number}"] = nn.MaxPool2d(3, stride=2)
        channels = width
    return chain


def _relu_after(convolution: str, layers: Sequence[str]) -> nn.ReLU:
    """In place, which saves a map, but not over a map that was asked for: it would be rectified after the fact."""
    return nn.ReLU(inplace=convolution not in layers)
