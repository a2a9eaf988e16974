"""Full precision for a few lines inside mixed precision.

A file of its own because softmaxes over thousands of scores lose their small shares in bfloat16, wherever they stand.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def in_float32(x: Tensor) -> AbstractContextManager[None]:
    """A block in which products of float32 tensors on the device of `x` stay float32 under autocast."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
