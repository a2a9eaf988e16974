"""Structure of pipelines/data: few parts on sight, few arrows between them, and no circle."""

import pytest

from tests.structure import find_arrows, find_circle


def test_the_parts_of_pipelines_data_are_few_and_import_in_one_direction() -> None:
    arrows = find_arrows("pipelines.data")
    assert len(arrows) <= 9
    assert sum(map(len, arrows.values())) <= 20
    assert find_circle(arrows) == []


@pytest.mark.parametrize(
    ("arrows", "circle"),
    [
        ({"a": {"b", "c"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}, ["a", "b", "c"]),
    ],
)
def test_a_circle_is_found(arrows: dict[str, set[str]], circle: list[str]) -> None:
    assert find_circle(arrows) == circle
