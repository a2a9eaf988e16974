"""Parts of a cluster file, and messages about wrong ones.

In: the file as loaded. Out: its parts, whatever their types, and text.
"""

import reprlib
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any, Final

_MAX_CHOICES: Final = 12
_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def get_part(config: object, key: str) -> dict[str, Any]:
    """Mapping under the key; empty for anything else, which the schema check reports."""
    value = config.get(key) if isinstance(config, dict) else None
    return value if isinstance(value, dict) else {}


def to_number(value: object) -> int:
    """The value if it is a whole number; 0 for anything else, which the schema check reports."""
    return value if type(value) is int else 0


def report_unknown(where: str, key: str, known: Collection[str]) -> str:
    """Message about an unknown key."""
    return f"{where} is no known key: {suggest(key, known)}"


def suggest(value: str, choices: Collection[str]) -> str:
    """Advice on a wrong value: all choices if they are at most 12, else the nearest."""
    if len(choices) <= _MAX_CHOICES:
        return f"use one of {', '.join(sorted(choices))}" if choices else "remove it"
    near = get_close_matches(value, choices, 1)
    return f"did you mean {near[0]}?" if near else "remove or correct it"


def shorten(value: object) -> str:
    """Short text of a value: an anchor may stand for any number of things."""
    return _SHORT.repr(value)
