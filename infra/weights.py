"""Pretrained weights: files that a user has brought, as state dicts.

In: names such as `vgg16_features`. Out: tensors. Never a download: what is missing is said.
"""

import os
from collections.abc import Sequence

from safetensors.torch import load
from torch import Tensor

from infra import storage


def load_weights(names: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    """The state dicts of these files under the URI in LACUNA_WEIGHTS, by name."""
    folder = os.environ.get("LACUNA_WEIGHTS", "weights")
    return {name: load(storage.read_bytes(storage.join(folder, f"{name}.safetensors"))) for name in names}
