"""One call of a network on pictures of one size, with the extra steps of the authors' scripts.

In: pictures N3HW in [0, 1], masks N1HW in {0, 1} with 1 = hole, and the network's further inputs. Out: N3HW.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn

from nets.layers.smooth import fill_smoothly
from nets.procedures.resize import resize

Noise = Callable[[int, tuple[int, ...]], Tensor]
"""Standard normal noise of a shape for one of the pictures that a photo is cut into, by its number."""


@dataclass(frozen=True)
class ChallengeSteps:
    """Extra steps of the authors' scripts; the papers do not mention them."""

    ensemble: bool = False
    """Take the mean of the predictions for five views of the picture: transposed, that by one, two and three quarter
    turns, and that mirrored."""
    blur: bool = False
    """Halve the size of the filled picture and double it again, both cubic, before hole pixels are taken from it."""
    truncate: bool = False
    """Cut values down to whole levels instead of rounding them, as the scripts of SPN and DeepGIN do."""


PLAIN: Final = ChallengeSteps()

_VIEWS: Final[tuple[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]], ...]] = (
    (lambda x: x.mT, lambda x: x.mT),
    (lambda x: x.mT.rot90(1, (2, 3)), lambda x: x.rot90(-1, (2, 3)).mT),
    (lambda x: x.mT.rot90(2, (2, 3)), lambda x: x.rot90(-2, (2, 3)).mT),
    (lambda x: x.mT.rot90(3, (2, 3)), lambda x: x.rot90(-3, (2, 3)).mT),
    (lambda x: x.mT.flip(3), lambda x: x.flip(3).mT),
)
"""The ensemble's views of a picture NCHW, there and back.

The authors' script transposes pictures where it cuts them out of a photo, so the network sees the four reflections of
the square and a quarter turn, and never the upright picture. Ours: their script brings each of the five predictions to
whole levels, rounded down, before it takes the mean, and the mean to whole levels, rounded, before it blurs.
"""


class NonFiniteFillError(ArithmeticError):
    """A network's fill has NaN or infinity in the hole; `number` says of which picture of the batch, from 0."""

    def __init__(self, number: int, num_pictures: int) -> None:
        super().__init__(f"the fill of picture {number + 1} of {num_pictures} is not finite: the weights are unusable")
        self.number = number


@dataclass(frozen=True)
class Photo:
    """A photo of any size with its hole, and the network's further inputs."""

    levels: Tensor
    """uint8 HW3."""
    hole: Tensor
    """uint8 HW in {0, 1}."""
    guides: Mapping[str, Tensor] = field(default_factory=dict)
    """Further inputs by the names of the network's arguments, float CHW."""
    noise: Noise | None = None


@dataclass(frozen=True)
class NetworkInput:
    """Pictures of one size, as a network takes them."""

    image: Tensor
    """N3HW in [0, 1]."""
    mask: Tensor
    """N1HW in {0, 1}."""
    guides: Mapping[str, Tensor] = field(default_factory=dict)
    """Further inputs by the names of the network's arguments, NCHW."""


def compute_smooth_base(network: nn.Module, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Base that a residual network adds to in the hole, by the name of its argument `base`; empty for other networks.

    Image N3HW, mask N1HW -> N3HW. To be made once of all that belongs together: fills of parts would not fit.
    """
    config = getattr(network, "config", None)
    if not getattr(config, "residual", False):
        return {}
    return {"base": fill_smoothly(image * (1 - mask), mask, getattr(config, "smoothing_sweeps", 0))}


def inpaint(network: nn.Module, pictures: NetworkInput, steps: ChallengeSteps) -> Tensor:
    """N3HW as the network inpaints it, or with an ensemble as `predict` has it."""
    return predict(network, pictures, steps) if steps.ensemble else _run(network, pictures)["inpainted"]


def predict(network: nn.Module, pictures: NetworkInput, steps: ChallengeSteps) -> Tensor:
    """N3HW as the network predicts it, outside the hole too, or the mean of what it predicts for the five views."""
    if not steps.ensemble:
        return _run(network, pictures)["predicted"]
    views = []
    for there, back in _VIEWS:
        turned = {name: there(x) for name, x in pictures.guides.items()}
        view = NetworkInput(there(pictures.image), there(pictures.mask), turned)
        views.append(back(_run(network, view)["predicted"]))
    return torch.stack(views).mean(dim=0)


def _run(network: nn.Module, pictures: NetworkInput) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = network(pictures.image, pictures.mask, **pictures.guides)
    return outputs


def finish(filled: Tensor, steps: ChallengeSteps) -> Tensor:
    """N3HW, blurred where the steps say so."""
    height, width = filled.shape[2:]
    if not steps.blur:
        return filled
    halves = [resize(picture, (max(1, height // 2), max(1, width // 2))) for picture in filled]
    return torch.stack([resize(half, (height, width)) for half in halves])


def to_levels(filled: Tensor, mask: Tensor, steps: ChallengeSteps) -> Tensor:
    """N3HW and hole N1HW -> uint8 NHW3 in ordinary memory.

    Raises NonFiniteFillError where a hole is not finite: rounding would make black or white of it, unnoticed.
    """
    refuse_non_finite(filled, mask)
    levels = filled.clamp(0, 1).mul(255)
    return (levels if steps.truncate else levels.round()).to(torch.uint8).permute(0, 2, 3, 1).cpu()


def refuse_non_finite(filled: Tensor, mask: Tensor) -> None:
    """Raise NonFiniteFillError for the first of N3HW that is not finite in its hole N1HW."""
    bad = (~filled.isfinite() & (mask > 0)).flatten(1).any(dim=1)
    if bad.any():
        raise NonFiniteFillError(int(bad.int().argmax()), len(bad))


def to_input(images: Tensor, masks: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Levels uint8 NHW3 and holes uint8 NHW -> N3HW in [0, 1] and N1HW where the network is."""
    return images.to(device).permute(0, 3, 1, 2).float() / 255, masks.to(device).unsqueeze(1).float()


def draw_noise(network: Any, image: Tensor, noises: Iterable[tuple[Noise, int]]) -> Tensor:
    """Noise for pictures N3HW, each by its photo's noise and its number among the photo's pictures: N and a shape."""
    shape = network.get_noise_shape(image)
    return torch.stack([noise(number, shape) for noise, number in noises]).to(image.device)


def get_device(network: nn.Module) -> torch.device:
    """Device of the network."""
    return next(network.parameters(), torch.empty(0)).device
