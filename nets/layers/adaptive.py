"""Adaptive convolution: each position has its own kernel and sampling places, the same for all channels.

In: N C H W features. Out: the same shape. Each position is a weighted sum of few rows of the features, one row per
pixel: one pass over all taps and corners gathers it, and no tap copies the features.
"""

from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.nn import functional as F

from nets.layers.precision import disable_autocast

_SUM: Final = 0
"""Number of embedding_bag's mode "sum" in torch's kernels."""
_GAIN: Final = 0.1
"""Factor on the predictors' outputs, so that a step moves kernels and offsets a tenth as far as other values. Ours:
without it features that are multiplied by their own kernels diverge (docs/log.md)."""
_FIRST_STD: Final = 0.01


class AdaptiveConvolution(nn.Module):
    """f_ada-conv of distillation-guided inpainting (Eq. 6): N C H W -> N C H W.

    Two convolutions predict K^2 kernel values and 2K^2 offsets of each position. The output begins near zero, to be
    added to other features, and without offsets.
    """

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        taps = kernel**2
        self.kernel = nn.Conv2d(channels, taps, 3, padding=1)
        self.offset = nn.Conv2d(channels, 2 * taps, 3, padding=1)
        self.begin_near_zero()

    def begin_near_zero(self) -> None:
        """Initialize in place: kernels are small but not zero, as offsets learn through them."""
        for layer, std in ((self.kernel, _FIRST_STD), (self.offset, 0.0)):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def begin_as_box(self) -> None:
        """Initialize in place as a box filter: all kernel values 1/K^2."""
        self.begin_near_zero()
        nn.init.zeros_(self.kernel.weight)
        if self.kernel.bias is not None:
            nn.init.constant_(self.kernel.bias, 1 / (_GAIN * self.kernel.out_channels))

    def forward(self, x: Tensor, source: Tensor | None = None) -> Tensor:
        """Features N C H W -> N C H W; kernels and offsets come from `source`, by default the features."""
        source = x if source is None else source
        return adaptive_convolution(x, _GAIN * self.kernel(source), _GAIN * self.offset(source))


def adaptive_convolution(x: Tensor, kernels: Tensor, offsets: Tensor) -> Tensor:
    """y(j) = sum over taps k of V_k(j) x(j + k + offset_k(j)): N C H W, N K^2 H W, N 2K^2 H W -> N C H W (Eq. 6).

    Taps go row by row; each tap has two offsets, down and to the right, in pixels. Values between pixels are bilinear,
    those outside the features 0. Once differentiable; summed in float32 also in mixed precision.
    """
    number, channels, height, width = x.shape
    rows, weights = _gather_rows(kernels, offsets, torch.promote_types(kernels.dtype, torch.float32))
    pixels = x.permute(0, 2, 3, 1).reshape(-1, channels).to(weights.dtype)
    sum_rows = _RowSums.apply if torch.is_grad_enabled() else _sum_rows
    y: Tensor = sum_rows(pixels, weights.flatten(1), rows.flatten(1))
    return y.view(number, height, width, channels).permute(0, 3, 1, 2).to(x.dtype)


# A trace takes sizes and the device from its input.
@torch.jit.script_if_tracing  # type: ignore[untyped-decorator]
def _gather_rows(kernels: Tensor, offsets: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Pixels that each position sums, and their weights: both NHW x K^2 x 4."""
    number, taps, height, width = kernels.shape
    reach = torch.arange(taps, device=kernels.device)
    side = int(taps**0.5 + 0.5)
    # Place of each tap, and the pixels around it.
    shift = offsets.permute(0, 2, 3, 1).reshape(number, height, width, taps, 2).to(dtype)
    down = torch.arange(height, device=kernels.device).view(-1, 1, 1) + reach // side - side // 2 + shift[..., 0]
    right = torch.arange(width, device=kernels.device).view(-1, 1) + reach % side - side // 2 + shift[..., 1]
    (row, row_weight), (column, column_weight) = _find_neighbors(down, height), _find_neighbors(right, width)
    # Row number and weight of each pixel.
    sample = torch.arange(number, device=kernels.device, dtype=torch.int32).view(-1, 1, 1, 1, 1, 1)
    pixel = (sample * height + row.unsqueeze(-1)) * width + column.unsqueeze(-2)
    kernel = kernels.permute(0, 2, 3, 1).to(dtype)[..., None, None]
    weight = kernel * row_weight.unsqueeze(-1) * column_weight.unsqueeze(-2)
    return pixel.view(-1, taps, 4), weight.reshape(-1, taps, 4)


def _find_neighbors(place: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Places on an axis -> the two pixels around each, int32, and their weights, 0 outside the axis: both ... x 2."""
    below = place.detach().floor()
    fraction = place - below
    pixels = torch.stack([below, below + 1], dim=-1)
    inside = (pixels >= 0) & (pixels < length)
    weights = torch.stack([1 - fraction, fraction], dim=-1) * inside
    return pixels.nan_to_num().clamp(0, length - 1).int(), weights


def _sum_rows(features: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
    with disable_autocast(features):
        sums: Tensor = _sum_bags(features, weights, rows)
    return sums


@torch.jit.script_if_tracing  # type: ignore[untyped-decorator]
def _sum_bags(features: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
    return F.embedding_bag(rows, features, mode="sum", per_sample_weights=weights)


class _RowSums(Function):
    """y_b = sum over t of w_bt x[r_bt]: rows P C, weights B T and row numbers B T -> B C; without autocast.

    Torch's own gradient with respect to features adds rows one by one; sorted by row number it is again a sum of bags,
    on a CPU in a third of the time.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(features, weights, rows)
        return _sum_rows(features, weights, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        features, weights, rows = ctx.saved_tensors
        gradient = gradient.contiguous()
        with disable_autocast(features):
            return (
                _compute_feature_gradient(gradient, weights, rows, len(features)),
                _compute_weight_gradient(gradient, features, weights, rows),
                None,
            )


def _compute_feature_gradient(gradient: Tensor, weights: Tensor, rows: Tensor, num_features: int) -> Tensor:
    """Gradient P C: each row of features gets the gradients of its sums."""
    numbers, order = torch.sort(rows.flatten(), stable=True)
    ends = torch.arange(num_features + 1, device=rows.device, dtype=rows.dtype)
    starts = torch.searchsorted(numbers, ends, out_int32=True)
    sums, shares = (order // rows.shape[1]).to(rows.dtype), weights.flatten()[order]
    return F.embedding_bag(sums, gradient, starts, mode="sum", per_sample_weights=shares, include_last_offset=True)


def _compute_weight_gradient(gradient: Tensor, features: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
    """Gradient B T: products of a sum's gradient and each of its rows, by torch's own kernel, which copies no row."""
    number, taps = rows.shape
    sums = torch.arange(number, device=rows.device, dtype=rows.dtype)
    products = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        gradient, features, rows.flatten(), sums * taps, sums.repeat_interleave(taps), _SUM
    )
    return cast("Tensor", products).view_as(weights)
