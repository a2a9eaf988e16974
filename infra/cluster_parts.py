"""Parts of a cluster file, and the words for a wrong one.

In: the file as loaded. Out: its parts, whatever somebody wrote there, and words.
"""

import reprlib
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any, Final

_MAX_CHOICES: Final = 12
_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def part(config: object, key: str) -> dict[str, Any]:
    """The mapping under the key; empty where there is none, which the schema names."""
    value = config.get(key) if isinstance(config, dict) else None
    return value if isinstance(value, dict) else {}


def number(value: object) -> int:
    """The value if it is a whole number; 0 for others, which the schema names."""
    return value if type(value) is int else 0


def unknown(where: str, key: str, known: Collection[str]) -> str:
    """The line for a key that nobody reads."""
    return f"{where} is no known key: {choose(key, known)}"


def choose(value: str, choices: Collection[str]) -> str:
    """What to take instead: all choices where they are few, else the nearest."""
    if len(choices) <= _MAX_CHOICES:
        return f"take one of {', '.join(sorted(choices))}" if choices else "remove it"
    near = get_close_matches(value, choices, 1)
    return f"did you mean {near[0]}?" if near else "remove or correct it"


def shown(value: object) -> str:
    """The value in a few words: an anchor may stand for any number of things."""
    return _SHORT.repr(value)
