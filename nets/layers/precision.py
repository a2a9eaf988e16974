"""Full precision for a few lines inside mixed precision.

A file of its own because softmaxes over thousands of scores lose their small shares in bfloat16, wherever they stand.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def disable_autocast(x: Tensor) -> AbstractContextManager[None]:
    """A block in which products of float32 tensors on the device of `x` stay float32 under autocast."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
