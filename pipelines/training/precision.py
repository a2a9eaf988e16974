"""In which numbers a training computes: float32, TensorFloat-32, or half-width numbers beside float32 weights.

In: the name of a precision. Out: blocks that compute in it, and for float16 the factor that keeps small gradients above
its smallest number.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from torch import Tensor

Precision = Literal["float32", "tf32", "bfloat16", "float16"]
"""Of products and convolutions. Weights, optimizers, losses, softmaxes and temperatures are float32 in all of them, but
`tf32` computes these too from its products. It has the range of float32 and 10 bits of fraction, on NVIDIA's GPUs since
Ampere; elsewhere it is float32. Bilevel phases are float32 always."""

PRECISIONS: Final = get_args(Precision)
_HALVES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_FIRST_FACTOR: Final = 2.0**16
_STEPS_TO_DOUBLE: Final = 2000


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Block in which networks on the device compute in this precision."""
    if precision in _HALVES:
        return torch.autocast(device.type, _HALVES[precision])
    return nullcontext()


def choose_number_type(precision: Precision) -> torch.dtype:
    """Type of the numbers that enter products; those of TensorFloat-32 are stored as float32."""
    return _HALVES.get(precision, torch.float32)


def to_float32(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with half-width numbers turned into float32, as losses need them."""
    return {name: t.float() if t.dtype in _HALVES.values() else t for name, t in tensors.items()}


def prepare_process(precision: Precision, *, deterministic: bool) -> None:
    """Set for this process what PyTorch has no block for, and one thread, as ranks have one core each."""
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.use_deterministic_algorithms(deterministic)


@contextmanager
def exact_products() -> Iterator[None]:
    """Block in which this process's products of float32 numbers are float32, and not TensorFloat-32."""
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags


@dataclass
class LossScale:
    """The factor by which float16 multiplies a loss before its gradients are taken; 1 for other precisions.

    Halved where gradients overflow, and that update skipped; doubled after 2,000 updates without (Micikevicius et al.,
    ICLR 2018, section 3.2). Part of the state, so that a resumed training continues with it.
    """

    factor: float = 1.0
    num_good: int = 0
    """Updates since it was last changed."""
    moves: bool = False

    @classmethod
    def for_precision(cls, precision: Precision) -> "LossScale":
        """The scale that a training of this precision begins with."""
        return cls(_FIRST_FACTOR, moves=True) if precision == "float16" else cls()

    def reduce(self) -> bool:
        """Halve the factor after an overflow; False where that would not help."""
        if self.factor <= 1.0:
            return False
        self.factor, self.num_good = self.factor / 2, 0
        return True

    def count_update(self) -> None:
        """Count an update, and double the factor after enough of them."""
        self.num_good += self.moves
        if self.num_good == _STEPS_TO_DOUBLE:
            self.factor, self.num_good = self.factor * 2, 0
