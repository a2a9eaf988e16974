"""Large matrices: a sample of them runs among the slow tests, all of them by `make soak`."""

from collections.abc import Collection, Iterable
from typing import TypeVar

import pytest
from _pytest.mark import ParameterSet

Case = TypeVar("Case", str, int)


def sample_cases(cases: Iterable[Case], sample: Collection[Case]) -> list[ParameterSet]:
    """Parameters of a test, slow; those that are not in the sample with the mark `soak`, which `make soak` alone runs.

    Raises ValueError where the sample names a case that there is not.
    """
    named = list(cases)
    if strangers := set(sample) - set(named):
        raise ValueError(f"no such cases: {sorted(map(str, strangers))}")
    return [pytest.param(case, marks=[pytest.mark.slow] if case in sample else [pytest.mark.soak]) for case in named]
