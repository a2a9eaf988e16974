"""Values as a tracking server takes them: parameters as flat text, and an input by which a stored model is tried.

In: settings and shapes. Out: text by dotted names, and arrays. A file of its own because it needs no server.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def example_input(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """One small all-zero input of the signature, which MLflow stores and tries."""
    sizes = {name: [1, *(16 if n < 0 else n for n in s[1:])] for name, s in shapes.items() if name != "output"}
    return {name: np.zeros(size, np.uint8) for name, size in sizes.items()}


def spell(value: Any) -> str:
    """One spelling for one value, whatever order its fields are in: the server takes no other for the same run."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
