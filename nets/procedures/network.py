"""One call of a network on pictures of one size, with the extra steps of DeepGIN's challenge script.

In: pictures N3HW in [0, 1], masks N1HW in {0, 1} with 1 = hole, and what the network takes beside them. Out: N3HW.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from torch import Tensor, nn, stack

from nets.layers.smooth import fill_smoothly

Noise = Callable[[int, tuple[int, ...]], Tensor]
"""Standard normal noise of a shape for one of the pictures that a photo is cut into, by its number."""


@dataclass(frozen=True)
class ChallengeSteps:
    """What the authors' script for the AIM challenge does beside; the paper does not mention it."""

    ensemble: bool = False
    """Take the mean of the predictions for five views of the picture: transposed, that by one, two and three quarter
    turns, and that mirrored."""
    blur: bool = False
    """Halve the size of the filled picture and double it again, both cubic, before hole pixels are taken from it."""


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


@dataclass(frozen=True)
class NetworkInput:
    """Pictures of one size, as a network takes them."""

    image: Tensor
    """N3HW in [0, 1]."""
    mask: Tensor
    """N1HW in {0, 1}."""
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    """What the network takes beside them, by the names of its arguments, NCHW."""


def smooth_base(network: nn.Module, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """What a residual network adds to in the hole, by the name of its argument `base`; of other networks nothing.

    Image N3HW, mask N1HW -> N3HW. To be made once of all that belongs together: fills of parts would not fit.
    """
    config = getattr(network, "config", None)
    if not getattr(config, "residual", False):
        return {}
    return {"base": fill_smoothly(image * (1 - mask), mask, getattr(config, "smoothing_sweeps", 0))}


def inpaint(network: nn.Module, pictures: NetworkInput, ensemble: bool = False) -> Tensor:
    """N3HW as the network inpaints it, or the mean of what it predicts for the five views."""
    if not ensemble:
        inpainted: Tensor = network(pictures.image, pictures.mask, **pictures.beside)["inpainted"]
        return inpainted
    views = []
    for there, back in _VIEWS:
        turned = {name: there(x) for name, x in pictures.beside.items()}
        views.append(back(network(there(pictures.image), there(pictures.mask), **turned)["predicted"]))
    return stack(views).mean(dim=0)
