"""Inception v3 as the Fréchet inception distance has it: features of pictures, from the published file.

In: pictures N3HW in [0, 1] and a state dict in the key layout of `pt_inception-2015-12-05-6726825d.pth`, which the
packages pytorch-fid and torch-fidelity read. Out: 2048 features of each picture.

It is the network of Szegedy et al. (CVPR 2016) with three departures of the TensorFlow graph of 2015: average pools
leave out the padding, the last block pools by maximum, and pictures are resized to 299 px without smoothing.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.features import load_pretrained

SIDE_PX: Final = 299
"""Side to which pictures of any size are resized."""

Kernel = int | tuple[int, int]


class Layer(NamedTuple):
    """A convolution of a branch; with a stride it has no padding."""

    name: str
    width: int
    kernel: Kernel = 1
    stride: int = 1


Path = tuple[tuple[Layer, ...], ...]
"""Steps of a branch: one layer each, or several side by side, whose outputs are joined."""
Pool = Literal["average", "maximum", "reduce"]


class FIDInception(nn.Module):
    """Pooled features of the Inception network."""

    def __init__(self) -> None:
        super().__init__()
        channels = 3
        for name, width, kernel, stride, padding in _STEM:
            self.add_module(name, _Convolution(channels, width, kernel, stride, padding))
            channels = width
        for name, paths, pool, pool_width in _BLOCKS:
            block = _Mixed(channels, paths, pool, pool_width)
            self.add_module(name, block)
            channels = block.width

    def forward(self, image: Tensor) -> Tensor:
        """N3HW in [0, 1] -> N 2048."""
        x = F.interpolate(image, size=(SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False) * 2 - 1
        for name, layer in self.named_children():
            x = layer(x)
            if name in _POOLED:
                x = F.max_pool2d(x, 3, stride=2)
        return x.mean(dim=(2, 3))


def load_fid_inception(state: Mapping[str, Tensor]) -> FIDInception:
    """Network with the published weights, frozen; raises ValueError if a tensor is missing or has another shape.

    The file may hold a classifier, and need not hold counts of batches.
    """
    network = FIDInception()
    counts = {key: tensor for key, tensor in network.state_dict().items() if key.endswith("num_batches_tracked")}
    load_pretrained(network, counts | dict(state), "FID Inception")
    return network


class _Convolution(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, channels: int, width: int, kernel: Kernel, stride: int, padding: Kernel) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class _Mixed(nn.Module):
    """Branches side by side, the last of which pools; layers are named as in the published file."""

    def __init__(self, channels: int, paths: Sequence[Path], pool: Pool, pool_width: int) -> None:
        super().__init__()
        self.paths, self.pool, self.width = paths, pool, pool_width or channels
        for path in paths:
            width = channels
            for step in path:
                for name, out, kernel, stride in step:
                    self.add_module(name, _Convolution(width, out, kernel, stride, _pad(kernel, stride)))
                width = sum(layer.width for layer in step)
            self.width += width
        if pool_width:
            self.branch_pool = _Convolution(channels, pool_width, 1, 1, 0)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self._follow(path, x) for path in self.paths]
        if self.pool == "average":
            pooled = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        elif self.pool == "maximum":
            pooled = F.max_pool2d(x, 3, stride=1, padding=1)
        else:
            pooled = F.max_pool2d(x, 3, stride=2)
        return torch.cat([*branches, pooled if self.pool == "reduce" else self.branch_pool(pooled)], dim=1)

    def _follow(self, path: Path, x: Tensor) -> Tensor:
        for step in path:
            x = torch.cat([self.get_submodule(layer.name)(x) for layer in step], dim=1)
        return x


def _pad(kernel: Kernel, stride: int) -> Kernel:
    if stride > 1:
        return 0
    return kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)


def _chain(*layers: Layer) -> Path:
    return tuple((layer,) for layer in layers)


def _build_a(pool_width: int) -> tuple[Sequence[Path], Pool, int]:
    double = Layer("branch3x3dbl_1", 64), Layer("branch3x3dbl_2", 96, 3), Layer("branch3x3dbl_3", 96, 3)
    five = Layer("branch5x5_1", 48), Layer("branch5x5_2", 64, 5)
    return (_chain(Layer("branch1x1", 64)), _chain(*five), _chain(*double)), "average", pool_width


def _build_b() -> tuple[Sequence[Path], Pool, int]:
    double = Layer("branch3x3dbl_1", 64), Layer("branch3x3dbl_2", 96, 3), Layer("branch3x3dbl_3", 96, 3, 2)
    return (_chain(Layer("branch3x3", 384, 3, 2)), _chain(*double)), "reduce", 0


def _build_c(width: int) -> tuple[Sequence[Path], Pool, int]:
    row, column = (1, 7), (7, 1)
    once = Layer("branch7x7_1", width), Layer("branch7x7_2", width, row), Layer("branch7x7_3", 192, column)
    kernels: tuple[Kernel, ...] = (1, column, row, column, row)
    twice = [Layer(f"branch7x7dbl_{k}", 192 if k == 5 else width, kernel) for k, kernel in enumerate(kernels, start=1)]
    return (_chain(Layer("branch1x1", 192)), _chain(*once), _chain(*twice)), "average", 192


def _build_d() -> tuple[Sequence[Path], Pool, int]:
    three = Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, 3, 2)
    names = [f"branch7x7x3_{k}" for k in range(1, 5)]
    seven = Layer(names[0], 192), Layer(names[1], 192, (1, 7)), Layer(names[2], 192, (7, 1)), Layer(names[3], 192, 3, 2)
    return (_chain(*three), _chain(*seven)), "reduce", 0


def _build_e(pool: Pool) -> tuple[Sequence[Path], Pool, int]:
    row, column = (1, 3), (3, 1)
    three = (Layer("branch3x3_1", 384),), (Layer("branch3x3_2a", 384, row), Layer("branch3x3_2b", 384, column))
    ends = Layer("branch3x3dbl_3a", 384, row), Layer("branch3x3dbl_3b", 384, column)
    double = (Layer("branch3x3dbl_1", 448),), (Layer("branch3x3dbl_2", 384, 3),), ends
    return (_chain(Layer("branch1x1", 320)), three, double), pool, 192


_STEM: Final = (
    ("Conv2d_1a_3x3", 32, 3, 2, 0),
    ("Conv2d_2a_3x3", 32, 3, 1, 0),
    ("Conv2d_2b_3x3", 64, 3, 1, 1),
    ("Conv2d_3b_1x1", 80, 1, 1, 0),
    ("Conv2d_4a_3x3", 192, 3, 1, 0),
)
"""Name, width, kernel, stride and padding."""
_POOLED: Final = frozenset({"Conv2d_2b_3x3", "Conv2d_4a_3x3"})
_BLOCKS: Final = (
    ("Mixed_5b", *_build_a(32)),
    ("Mixed_5c", *_build_a(64)),
    ("Mixed_5d", *_build_a(64)),
    ("Mixed_6a", *_build_b()),
    ("Mixed_6b", *_build_c(128)),
    ("Mixed_6c", *_build_c(160)),
    ("Mixed_6d", *_build_c(160)),
    ("Mixed_6e", *_build_c(192)),
    ("Mixed_7a", *_build_d()),
    ("Mixed_7b", *_build_e("average")),
    ("Mixed_7c", *_build_e("maximum")),
)
