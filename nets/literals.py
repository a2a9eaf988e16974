"""Settings with a fixed set of names, checked at runtime: a misspelled name is refused, never read as another variant.

In: a frozen dataclass with fields of `Literal` types. Out: ValueError naming field, value and choices.
"""

from typing import Any, Literal, get_args, get_origin, get_type_hints


class LiteralChecked:
    """Base of configs whose `Literal` fields must have one of their names."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value: Any = getattr(self, name)
            if get_origin(hint) is Literal and value not in get_args(hint):
                choices = ", ".join(map(repr, get_args(hint)))
                raise ValueError(f"{type(self).__name__}: {name} is {value!r}: use one of {choices}")
