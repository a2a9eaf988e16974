"""The critics of SPN: patches of a picture -> scores; the probabilistic one also gives its features.

In: pictures N3HW in [0, 1], as raw predictions, without a mask. Out: score maps N1(H/8-2)(W/8-2).
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

_STRIDES = (2, 2, 2, 1, 1)


def _build_convolutions(width: int, *, plain: tuple[int, ...]) -> nn.ModuleList:
    """Build five 4x4 convolutions; those whose numbers are in `plain` have a bias, the others a spectral norm."""
    widths = [3, width, 2 * width, 4 * width, 8 * width, 1]
    layers = [
        nn.Conv2d(*pair, 4, stride, padding=1, bias=number in plain)
        for number, (pair, stride) in enumerate(zip(pairwise(widths), _STRIDES, strict=True))
    ]
    return nn.ModuleList(layer if n in plain else spectral_norm(layer) for n, layer in enumerate(layers))


class PatchCritic(nn.Module):
    """Critic of the deterministic SPN and of SPL: spectral norms, no biases. 2,763,776 parameters at width 64.

    The authors' code ends with a sigmoid; here the losses take the logits.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = _build_convolutions(width, plain=())

    def forward(self, image: Tensor) -> Tensor:
        """N3HW in [0, 1] -> logits N1hw, 30x30 for 256x256."""
        *inner, last = self.layers
        for layer in inner:
            image = F.leaky_relu(layer(image), 0.2)
        scores: Tensor = last(image)
        return scores


class MatchingCritic(nn.Module):
    """Critic of the probabilistic SPN: instance norms inside, and features to match. 2,763,841 at width 64."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = _build_convolutions(width, plain=(0, 4))

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """N3HW in [0, 1] -> scores N1hw, unbounded, and the features after the second, third and fourth convolution."""
        first, *inner, last = self.layers
        x, features = F.leaky_relu(first(image), 0.2), []
        for layer in inner:
            x = F.leaky_relu(F.instance_norm(layer(x)), 0.2)
            features.append(x)
        return last(x), features
