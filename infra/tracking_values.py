"""Values in the form of a tracking server: parameters as flat text, and the example input of a stored model.

In: settings and shapes. Out: text by dotted names, and arrays.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def make_example_input(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Small input of zeros for the signature, which MLflow stores and tries."""
    sizes = {name: [1, *(16 if n < 0 else n for n in s[1:])] for name, s in shapes.items() if name != "output"}
    return {name: np.zeros(size, np.uint8) for name, size in sizes.items()}


def format_param(value: Any) -> str:
    """Text of a parameter, whatever the order of its fields: the server refuses another text for the same run."""
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
