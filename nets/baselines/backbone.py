"""Completion blocks and encoder that the baselines share, for levels of unequal width.

DGI's distillation needs the same of every backbone: outputs `encoded_<level>`, a switch for completion blocks, and
`distilled_channels`, the channels of those levels.
"""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from nets.distill.network import reduce_hole
from nets.layers.adaptive import AdaptiveConvolution


class CompletionBlocks(nn.Module):
    """CB of DGI (Eq. 5) for several levels with shared predictors of kernels and offsets.

    The predictors take the channels of the narrowest level; 1x1 convolutions reduce wider levels to them.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        narrowest = min(channels)
        self.adapters = nn.ModuleList(
            nn.Identity() if width == narrowest else nn.Conv2d(width, narrowest, 1) for width in channels
        )
        self.adaptive = AdaptiveConvolution(narrowest)

    def forward(self, x: Tensor, mask: Tensor, level: int) -> Tensor:
        """Features N C h w of level 0, 1, … and hole N1HW -> N C h w, changed in the hole only."""
        completed: Tensor = x + self.adaptive(x, self.adapters[level](x)) * reduce_hole(mask, x)
        return completed


def encode_levels(
    levels: Iterable[nn.Module], completion: CompletionBlocks | None, x: Tensor, mask: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """N C HW and hole N1HW -> features of the deepest level, and those of each level as `encoded_<level>`."""
    features = {}
    for number, level in enumerate(levels):
        x = level(x)
        if completion is not None:
            x = completion(x, mask, number)
        features[f"encoded_{number + 1}"] = x
    return x, features
