"""How often a training starts at one checkpoint: the policy of restarts, without any cluster."""

import pytest

from pipelines.training.launcher import has_starts_left


@pytest.mark.parametrize("is_elastic", [False, True])
def test_three_faults_at_a_checkpoint_are_the_end(is_elastic: bool) -> None:
    assert [has_starts_left(starts, starts - 1, is_elastic=is_elastic) for starts in (1, 2, 3, 4)] == [
        True,
        True,
        True,
        False,
    ]


def test_killed_processes_are_restarted_twice_at_a_checkpoint() -> None:
    assert [has_starts_left(starts, 0, is_elastic=False) for starts in (1, 3, 4)] == [True, True, False]


def test_a_number_of_workers_may_change_nineteen_times_at_a_checkpoint() -> None:
    assert [has_starts_left(starts, 0, is_elastic=True) for starts in (4, 20, 21)] == [True, True, False]
