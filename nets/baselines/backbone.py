"""What the baselines have in common: completion blocks for levels of unlike width.

A file of its own because DGI's distillation needs the same of every backbone: `encoded_<level>` among its outputs, a
switch for completion blocks, and `taught`, the channels of those levels.
"""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from nets.distill.network import reduce_hole
from nets.layers.adaptive import AdaptiveConvolution


class CompletionBlocks(nn.Module):
    """CB of DGI (Eq. 5) for several levels, which share their predictors of kernels and offsets.

    The predictors see as many channels as the narrowest level has; 1x1 convolutions bring wider levels to it.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        narrowest = min(channels)
        self.adapters = nn.ModuleList(
            nn.Identity() if width == narrowest else nn.Conv2d(width, narrowest, 1) for width in channels
        )
        self.adaptive = AdaptiveConvolution(narrowest)

    def forward(self, x: Tensor, mask: Tensor, level: int) -> Tensor:
        """Features N C h w of a level, from 0, and hole N1HW -> N C h w, changed in the hole alone."""
        completed: Tensor = x + self.adaptive(x, self.adapters[level](x)) * reduce_hole(mask, x)
        return completed


def encode(
    levels: Iterable[nn.Module], completion: CompletionBlocks | None, x: Tensor, mask: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """N C HW and hole N1HW -> features of the deepest level, and of each as `encoded_<level>`, completed if asked."""
    features = {}
    for number, level in enumerate(levels):
        x = level(x)
        if completion is not None:
            x = completion(x, mask, number)
        features[f"encoded_{number + 1}"] = x
    return x, features
