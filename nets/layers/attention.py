"""Self-attention over all positions of a feature map.

In and out: N C H W. Torch's fused kernel computes it in blocks, without the (HW)^2 matrix.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class NonLocalAttention(nn.Module):
    """SA block of DeepGIN (section 4.1): embedded-Gaussian non-local attention, residual sum, N C H W -> same.

    Queries, keys and values have C/2 channels; the softmax runs over keys and is not scaled.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 2, 1)
        self.key = nn.Conv2d(channels, channels // 2, 1)
        self.value = nn.Conv2d(channels, channels // 2, 1)
        self.output = nn.Conv2d(channels // 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).flatten(2).transpose(1, 2)[:, None] for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)  # N, 1, HW, C/2
        attended: Tensor = x + self.output(mixed[:, 0].transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:]))
        return attended
