"""What a build says of its own speed: true to what its tasks booked, and without a trace in the dataset."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import shard
from pipelines.data.build import build_dataset
from pipelines.data.effort import Effort, Laps
from pipelines.data.workspace import Plan
from tests.conftest import silent
from tests.making import shard_recipe

KINDS = ("listing", "sorting", "reading", "hashing", "cleaning", "writing")
seconds = st.dictionaries(st.sampled_from(KINDS), st.floats(0, 100))


def bytes_below(folder: Path) -> dict[str, bytes]:
    """Every file, by its path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_moment_goes_to_the_work_that_has_just_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 11.0, 13.0, 17.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(moments))
    laps = Laps()
    for what in ("reading", "hashing", "reading"):
        laps.end(what)
    assert laps.seconds == {"reading": 5.0, "hashing": 2.0}


@given(st.lists(seconds, max_size=5), st.integers(1, 64), st.floats(0.1, 1000))
def test_the_share_is_one_and_the_bottleneck_a_word(tasks: list[dict[str, float]], cores: int, elapsed: float) -> None:
    effort = Effort(num_cores=cores)
    for task in tasks:
        effort.add(task)
    told = effort.told(elapsed)
    assert 0 <= float(told["share_of_limit"]) <= 1
    assert told["bottleneck"] in (*KINDS, "scheduling")


@pytest.mark.parametrize(
    ("booked", "share", "bottleneck"),
    [
        ({"reading": 12.0, "hashing": 4.0}, 0.8, "reading"),
        ({"reading": 4.0, "hashing": 4.0, "cleaning": 6.0, "writing": 2.0}, 0.8, "cleaning"),
        ({"reading": 2.0, "sorting": 17.0}, 0.1, "sorting"),
        ({"reading": 2.0, "listing": 9.0}, 0.1, "listing"),  # one core lists while the other waits
        ({"reading": 2.0}, 0.1, "scheduling"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_of_twenty_core_seconds_the_largest_part_is_named(
    booked: dict[str, float], share: float, bottleneck: str
) -> None:
    effort = Effort(num_cores=2)
    effort.add(booked)
    assert effort.told(10.0) == {"share_of_limit": share, "bottleneck": bottleneck}


@pytest.mark.usefixtures("ray_cluster")
def test_who_watches_a_build_changes_no_byte(photos: Path, tmp_path: Path) -> None:
    effort = Effort()
    watched = build_dataset(Plan(str(photos), str(tmp_path / "a"), shard_recipe(), 0), silent, effort)
    build_dataset(Plan(str(photos), str(tmp_path / "b"), shard_recipe(), 0), silent)
    assert bytes_below(tmp_path / "a") == bytes_below(tmp_path / "b")
    assert set(effort.core_seconds) == set(KINDS)
    assert min(effort.core_seconds.values()) > 0
    assert effort.num_cores >= 2
    again = Effort()
    assert build_dataset(Plan(str(photos), str(tmp_path / "a"), shard_recipe(), 0), silent, again) == watched
    assert again.core_seconds == {}


@pytest.mark.usefixtures("ray_cluster")
def test_the_report_of_a_build_says_how_near_its_limit_it_was(photos: Path, tmp_path: Path) -> None:
    arguments = shard.Arguments(shard_recipe(), str(tmp_path / "data"), str(photos))
    report = shard.run(arguments)
    assert 0 < report["share_of_limit"] < 1
    assert report["bottleneck"] in (*KINDS, "scheduling")
    assert "bottleneck" not in shard.run(arguments)  # nothing was built
