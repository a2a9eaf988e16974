"""Targets of the distilled priors: maps of a pretext network, of another prior learner, or from files.

In: a step's inputs. Out: one map per scale, from the deepest to the finest; the objective resizes each to the prior of
its scale. The recipe chooses (Fig. 8, Fig. 9, Table 5): the paper's TResNet-L, or a substitute under its own name. Each
config knows the channels of its maps, the files of weights that it needs, and how to build the module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

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
"""Seed of a teacher with fresh weights."""


@dataclass(frozen=True)
class TResNetTarget:
    """Target of the paper: TResNet-L, trained on Open Images with the asymmetric loss."""

    weights: str | None = "tresnet_l_openimages"
    """File of weights; None gives fresh ones, the same in every training: "SPN w/ rand" of Fig. 9."""
    width: int = 76
    """Channels of the first layer; published weights have 76."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of layer2, layer1 and conv1."""
        return 2 * self.width, self.width, self.width

    @property
    def needs_weights(self) -> tuple[str, ...]:
        """File of weights, if the config names one."""
        return () if self.weights is None else (self.weights,)

    def build(self, weights: Weights) -> nn.Module:
        """Build the trunk, for the enlarged picture."""
        return TrunkTargets(
            self._build_fresh() if self.weights is None else load_published_trunk(weights[self.weights])
        )

    def _build_fresh(self) -> TResNetTrunk:
        """Build from a fixed seed: checkpoints hold no teacher, so it must not depend on numbers drawn before it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_RANDOM_SEED)
            return TResNetTrunk(self.width)


@dataclass(frozen=True)
class VGGTarget:
    """Substitute: VGG-16, trained to classify ImageNet, at the layers of the priors' sizes."""

    weights: str = "vgg16_features"

    channels: ClassVar[tuple[int, ...]] = (512, 256, 128)
    """Channels of relu4_1, relu3_1 and relu2_1."""

    @property
    def needs_weights(self) -> tuple[str, ...]:
        """File of weights."""
        return (self.weights,)

    def build(self, weights: Weights) -> nn.Module:
        """Build the layers, for the enlarged picture."""
        return VGGTargets(weights[self.weights])


@dataclass(frozen=True)
class PriorTarget:
    """Another SPN's priors of the whole picture (Table 5: SPL from the deepest prior of an SPN trained on Places2)."""

    weights: str
    """File of weights of a checkpoint's generator, which `lacuna weights --checkpoint` writes."""
    network: SPNConfig = field(default_factory=SPNConfig)

    def __post_init__(self) -> None:
        if not isinstance(self.network, SPNConfig):
            raise ValueError(f"network is a {type(self.network).__name__}: use an SPNConfig, priors come from an SPN")

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the priors of this network."""
        w = self.network.width
        return (4 * w, 2 * w, w)[: self.network.num_scales]

    @property
    def needs_weights(self) -> tuple[str, ...]:
        """File of weights."""
        return (self.weights,)

    def build(self, weights: Weights) -> nn.Module:
        """Build the prior learner, for the enlarged picture without a hole."""
        return PriorTargets(self.network, weights[self.weights])


@dataclass(frozen=True)
class MapsTarget:
    """Substitute: the photo's plane of this name; without a plane of edges, Sobel's filter finds them."""

    plane: str = "edge"
    channels_of_plane: int = 1

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the plane, at every scale."""
        return (self.channels_of_plane,) * 3

    needs_weights: ClassVar[tuple[str, ...]] = ()

    def build(self, _: Weights) -> nn.Module:
        """Build the target: the plane at three sizes."""
        return MapsTargets(self.plane, self.channels_of_plane)


Target = TResNetTarget | VGGTarget | PriorTarget | MapsTarget


def enlarge_image(inputs: Inputs) -> Tensor:
    """Enlarge the picture twice: the plane `image_large`, made from the photo, or the image by bilinear interpolation.

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
        """Maps of H/4, H/2 and H/2 rows; the last is for the finest scale, as no layer has H rows."""
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
        """Maps of H/4, H/2 and H rows, as many as the network has priors."""
        large = enlarge_image(inputs)
        priors: list[Tensor] = self.prior(large, torch.zeros_like(large[:, :1])).priors
        return priors


class MapsTargets(nn.Module):
    """Maps from a plane of the batch, or edges of the picture."""

    def __init__(self, plane: str, channels: int) -> None:
        super().__init__()
        self.plane, self.channels = plane, channels

    def forward(self, inputs: Inputs) -> list[Tensor]:
        """Maps of H/4, H/2 and H rows, by means over areas.

        Raises ValueError if the plane is missing or has another number of channels than the target.
        """
        maps = inputs.planes.get(self.plane)
        if maps is None and self.plane != "edge":
            raise ValueError(
                f"no plane {self.plane!r} in the batch: the target uses it, name it in the stream's planes"
            )
        maps = find_sobel_edges(enlarge_image(inputs)) if maps is None else maps
        if maps.shape[1] != self.channels:
            raise ValueError(
                f"plane {self.plane!r} has {maps.shape[1]} channels, channels_of_plane {self.channels}: make them equal"
            )
        height, width = inputs.image.shape[2:]
        return [F.interpolate(maps, size=(height // part, width // part), mode="area") for part in (4, 2, 1)]


def find_sobel_edges(image: Tensor) -> Tensor:
    """Find edges by Sobel's filters: N3HW in [0, 1] -> length of the gradient N1HW, 1 for black to white."""
    return compute_squared_gradient(image).clamp_min(1e-12).sqrt().clamp(max=1)
