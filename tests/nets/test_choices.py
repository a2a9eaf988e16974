"""Settings that are names: a misspelt one is refused with the names that there are."""

from dataclasses import fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from nets import OBJECTIVES
from nets.mhtma.critic import GlobalLocalCriticConfig
from nets.mhtma.network import MHTMAConfig
from nets.spn.network import SPLConfig
from nets.spn.targets import PriorTarget


def list_configs() -> list[Any]:
    """Of every objective and of its network."""
    objectives = [kind() for kind in OBJECTIVES]
    return objectives + [config.network for config in objectives if hasattr(config, "network")]


NAMED = [
    (config, field.name, get_args(get_type_hints(type(config))[field.name]))
    for config in list_configs()
    for field in fields(config)
    if get_origin(get_type_hints(type(config))[field.name]) is Literal
]


@pytest.mark.parametrize(("config", "name", "known"), NAMED, ids=[f"{type(c).__name__}.{n}" for c, n, _ in NAMED])
def test_a_misspelt_name_is_refused_with_those_there_are(config: Any, name: str, known: tuple[str, ...]) -> None:
    for value in (known[0].upper(), known[-1] + " ", ""):
        with pytest.raises(ValueError, match=f"{name} is {value!r}: use one of .*{known[0]!r}.*{known[-1]!r}"):
            replace(config, **{name: value})


def test_there_are_such_names_in_every_paper() -> None:
    assert len(NAMED) >= 8


@pytest.mark.parametrize("local_px", [0, 33, 48])
def test_a_patch_larger_than_the_picture_is_refused(local_px: int) -> None:
    with pytest.raises(ValueError, match=f"local_px is {local_px}: use 1 to size_px, which is 32"):
        GlobalLocalCriticConfig(size_px=32, local_px=local_px)


@pytest.mark.parametrize("sizes", [{"width": 0}, {"num_heads": 0}, {"patch_px": -1}])
def test_sizes_below_one_are_refused(sizes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="use 1 or more"):
        replace(MHTMAConfig(), **sizes)


def test_priors_are_taken_from_an_spn_alone() -> None:
    with pytest.raises(ValueError, match="network is a SPLConfig: use an SPNConfig"):
        PriorTarget("file", SPLConfig())  # type: ignore[arg-type]
