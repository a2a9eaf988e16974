"""Settings that are names to choose from: one that is misspelt is refused, and no other variant taken for it.

In: a frozen dataclass with fields of `Literal` types. Out: ValueError naming field, value and choices. A file of its
own because every paper's configs have such fields, and a type alone stops nobody at runtime.
"""

from typing import Any, Literal, get_args, get_origin, get_type_hints


class LiteralChecked:
    """A base of configs: what has a `Literal` type must be one of its names."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value: Any = getattr(self, name)
            if get_origin(hint) is Literal and value not in get_args(hint):
                known = ", ".join(map(repr, get_args(hint)))
                raise ValueError(f"{type(self).__name__}: {name} is {value!r}: take one of {known}")
