"""Full precision inside mixed precision: in bfloat16, softmaxes over thousands of scores lose small shares."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def disable_autocast(x: Tensor) -> AbstractContextManager[None]:
    """Disable autocast in a block: products of float32 tensors on the device of `x` stay float32."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
