"""What priors are distilled from: the maps of a pretext network, of another prior learner, or maps that come as files.

In: a step's inputs. Out: one map per scale, from the deepest to the finest; what is larger or smaller than the prior of
its scale is resized to it by the objective. A file of its own because this is a choice of the recipe (Fig. 8, Fig. 9,
Table 5): the paper's TResNet-L, or a substitute under its own name. Each configuration knows the channels of its maps,
the files of weights it needs, and how to build the module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.features import VGGFeatures, load_pretrained
from nets.layers.edges import compute_squared_gradient
from nets.objective import Inputs, Weights
from nets.spn.network import SPNConfig
from nets.spn.prior import PriorLearner
from nets.spn.teacher import TResNetTrunk, load_published_trunk

_VGG_LAYERS: Final = ("relu4_1", "relu3_1", "relu2_1")
_RANDOM_SEED: Final = 0
"""Of a teacher with fresh weights."""


@dataclass(frozen=True)
class TResNetTarget:
    """The paper's: TResNet-L, trained on Open Images with the asymmetric loss."""

    weights: str | None = "tresnet_l_openimages"
    """File of weights; none takes fresh ones, the same in every training: "SPN w/ rand" of Fig. 9."""
    width: int = 76
    """Channels of the first layer; published weights have 76."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Of layer2, layer1 and conv1."""
        return 2 * self.width, self.width, self.width

    @property
    def needs_weights(self) -> tuple[str, ...]:
        """The file, if one is named."""
        return () if self.weights is None else (self.weights,)

    def build(self, weights: Weights) -> nn.Module:
        """The trunk on the enlarge_image picture."""
        return TrunkTargets(self._fresh() if self.weights is None else load_published_trunk(weights[self.weights]))

    def _fresh(self) -> TResNetTrunk:
        """From a seed of its own: a teacher is no checkpoint's, and must not change with what was drawn before it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_RANDOM_SEED)
            return TResNetTrunk(self.width)


@dataclass(frozen=True)
class VGGTarget:
    """A substitute: VGG-16, trained to classify ImageNet, at the layers that have the priors' sizes."""

    weights: str = "vgg16_features"

    @property
    def channels(self) -> tuple[int, ...]:
        """Of relu4_1, relu3_1 and relu2_1."""
        return 512, 256, 128

    @property
    def needs_weights(self) -> tuple[str, ...]:
        """The file."""
        return (self.weights,)

    def build(self, weights: Weights) -> nn.Module:
        """The layers on the enlarge_image picture."""
        return VGGTargets(weights[self.weights])


@dataclass(frozen=True)
class PriorTarget:
    """Another SPN's priors of the whole picture (Table 5: SPL from the deepest prior of an SPN trained on Places2)."""

    weights: str
    """File of weights: the generator's of a checkpoint, which `lacuna weights --checkpoint` writes."""
    network: SPNConfig = field(default_factory=SPNConfig)

    def __post_init__(self) -> None:
        if not isinstance(self.network, SPNConfig):
            raise ValueError(
                f"network is a {type(self.network).__name__}: priors are taken from an SPN, give its config"
            )

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the priors that this network has."""
        w = self.network.width
        return (4 * w, 2 * w, w)[: self.network.num_scales]

    @property
    def needs_weights(self) -> tuple[str, ...]:
        """The file."""
        return (self.weights,)

    def build(self, weights: Weights) -> nn.Module:
        """The prior learner on the enlarge_image picture, without a hole."""
        return PriorTargets(self.network, weights[self.weights])


@dataclass(frozen=True)
class MapsTarget:
    """A substitute: maps of the photo, its plane of this name; edges are found by Sobel's filter if there is none."""

    plane: str = "edge"
    channels_of_plane: int = 1

    @property
    def channels(self) -> tuple[int, ...]:
        """The same at every scale."""
        return (self.channels_of_plane,) * 3

    @property
    def needs_weights(self) -> tuple[str, ...]:
        """No files."""
        return ()

    def build(self, _: Weights) -> nn.Module:
        """The plane at three sizes."""
        return MapsTargets(self.plane, self.channels_of_plane)


Target = TResNetTarget | VGGTarget | PriorTarget | MapsTarget


def enlarge_image(inputs: Inputs) -> Tensor:
    """The picture at twice its size: the plane `image_large`, made from the photo, or the image enlarge_image (bilinear).

    The authors' code resizes the photo; the paper enlarges the image.
    """
    large = inputs.planes.get("image_large")
    if large is not None:
        return large
    return F.interpolate(inputs.image, scale_factor=2, mode="bilinear", align_corners=False)


class TrunkTargets(nn.Module):
    """Feature maps of TResNet-L."""

    def __init__(self, trunk: TResNetTrunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, inputs: Inputs) -> list[Tensor]:
        """Maps of H/4, H/2 and H/2 rows; the last stands for the finest scale, whose size no layer has."""
        maps: list[Tensor] = self.trunk(enlarge_image(inputs))
        return maps


class VGGTargets(nn.Module):
    """Feature maps of VGG-16."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.features = VGGFeatures(16, _VGG_LAYERS, state)

    def forward(self, inputs: Inputs) -> list[Tensor]:
        """Maps of H/4, H/2 and H rows."""
        maps = self.features(enlarge_image(inputs))
        return [maps[name] for name in _VGG_LAYERS]


class PriorTargets(nn.Module):
    """Priors of a trained SPN."""

    def __init__(self, network: SPNConfig, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.prior = PriorLearner(network, network.num_scales, slope=0.0, variational=network.probabilistic)
        load_pretrained(self, state, "prior learner")

    def forward(self, inputs: Inputs) -> list[Tensor]:
        """Maps of H/4, H/2 and H rows, as many as that network has priors."""
        large = enlarge_image(inputs)
        priors: list[Tensor] = self.prior(large, torch.zeros_like(large[:, :1])).priors
        return priors


class MapsTargets(nn.Module):
    """Maps that come with the photo, or its edges."""

    def __init__(self, plane: str, channels: int) -> None:
        super().__init__()
        self.plane, self.channels = plane, channels

    def forward(self, inputs: Inputs) -> list[Tensor]:
        """Maps of H/4, H/2 and H rows, means of what they cover.

        Raises ValueError where the plane is missing or has other channels than the target says.
        """
        maps = inputs.planes.get(self.plane)
        if maps is None and self.plane != "edge":
            raise ValueError(
                f"the target is the plane {self.plane!r}, which no batch has: name it in the stream's planes"
            )
        maps = find_sobel_edges(enlarge_image(inputs)) if maps is None else maps
        if maps.shape[1] != self.channels:
            raise ValueError(
                f"the plane {self.plane!r} has {maps.shape[1]} channels: set channels_of_plane, now {self.channels}"
            )
        height, width = inputs.image.shape[2:]
        return [F.interpolate(maps, size=(height // part, width // part), mode="area") for part in (4, 2, 1)]


def find_sobel_edges(image: Tensor) -> Tensor:
    """N3HW in [0, 1] -> N1HW in [0, 1]: length of the gradient by Sobel's filters, 1 for a step from black to white."""
    return compute_squared_gradient(image).clamp_min(1e-12).sqrt().clamp(max=1)
