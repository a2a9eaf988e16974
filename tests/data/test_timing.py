"""What a build says of its own speed: true to what its tasks booked, and without a trace in the dataset."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import shard
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.build.roofline import estimate_photo_seconds
from pipelines.data.build.timing import BuildStats, Cost, Stopwatch
from pipelines.data.commit.workspace import Plan
from pipelines.records import Photo
from tests.conftest import silent
from tests.making import photo_folder, shard_recipe

KINDS = ("listing", "sorting", "reading", "hashing", "cleaning", "writing", "copying")
seconds = st.dictionaries(st.sampled_from(KINDS), st.floats(0, 100))


def bytes_below(folder: Path) -> dict[str, bytes]:
    """Every file, by its path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_moment_goes_to_the_innermost_work_that_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 11.0, 13.0, 17.0, 25.0, 26.0, 58.0, 59.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(moments))
    stopwatch = Stopwatch()
    with stopwatch.measure("writing"):
        with stopwatch.measure("reading"):
            pass  # 2 seconds
        with stopwatch.measure("cleaning"), stopwatch.measure("reading"):
            pass  # 1 second, of 41 in all

    assert stopwatch.seconds == {"writing": 1.0 + 4.0 + 1.0, "reading": 2.0 + 1.0, "cleaning": 8.0 + 32.0}


def test_a_fault_in_a_block_leaves_the_time_of_the_others_right(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 1.0, 3.0, 7.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(moments))
    stopwatch = Stopwatch()
    with stopwatch.measure("sorting"), suppress(ValueError), stopwatch.measure("reading"):
        raise ValueError
    assert stopwatch.seconds == {"sorting": 5.0, "reading": 2.0}


costs = st.builds(Cost, seconds.filter(bool), st.integers(0, 1000), st.floats(0, 100))


@given(st.lists(costs, min_size=1, max_size=5), st.integers(1, 64), st.floats(0.1, 1000))
def test_the_share_is_one_and_the_bottleneck_a_word(tasks: list[Cost], cores: int, elapsed: float) -> None:
    stats = BuildStats(num_cores=cores)
    for task in tasks:
        stats.add_cost(task)
    summary = stats.summarize(elapsed)
    assert summary["images_per_second"] == round(sum(task.num_photos for task in tasks) / elapsed, 1)
    assert 0 <= float(summary["share_of_limit"]) <= 1
    assert summary["bottleneck"] in (*KINDS, "scheduling")


@pytest.mark.parametrize(
    ("booked", "bottleneck"),
    [
        ({"reading": 12.0, "hashing": 4.0}, "reading"),
        ({"reading": 4.0, "hashing": 4.0, "cleaning": 6.0, "writing": 2.0}, "cleaning"),
        ({"reading": 2.0, "sorting": 17.0}, "sorting"),
        ({"reading": 2.0, "listing": 9.0}, "listing"),  # one core lists while the other waits
        ({"reading": 2.0}, "scheduling"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_of_twenty_core_seconds_the_largest_part_is_named(booked: dict[str, float], bottleneck: str) -> None:
    stats = BuildStats(num_cores=2)
    stats.add(booked)
    assert stats.summarize(10.0)["bottleneck"] == bottleneck


def test_the_share_is_what_the_bare_calls_would_take_of_the_cores_time() -> None:
    stats = BuildStats(num_cores=2)
    stats.add_cost(Cost({"reading": 12.0, "cleaning": 4.0}, 30, 5.0))
    stats.add_cost(Cost({"reading": 2.0}, 20, 4.0))
    assert stats.summarize(10.0) == {"images_per_second": 5.0, "share_of_limit": 0.45, "bottleneck": "reading"}


def test_the_limit_of_a_photo_grows_with_what_the_recipe_asks_for(photos: Path, tmp_path: Path) -> None:
    some = [Photo(str(path.relative_to(photos)), "train", None, path.stat().st_size) for path in photos.rglob("*.jpg")]
    kept, large = (
        estimate_photo_seconds(Plan(str(photos), str(tmp_path), shard_recipe(**changes), 0), some[:4], 1000)
        for changes in ({}, {"resize": "squash", "size_px": 512})
    )
    assert 0 < 10 * kept < large
    assert list(tmp_path.iterdir()) == []


def test_the_limit_of_photos_that_are_gone_is_not_known(tmp_path: Path) -> None:
    plan = Plan(str(tmp_path / "root"), str(tmp_path), shard_recipe(), 0)
    assert estimate_photo_seconds(plan, [Photo("gone.jpg", "train", None, 3)], 10) == 0


@pytest.mark.usefixtures("ray_cluster")
def test_who_watches_a_build_changes_no_byte(photos: Path, tmp_path: Path) -> None:
    stats = BuildStats()
    watched = build_dataset(Plan(str(photos), str(tmp_path / "a"), shard_recipe(), 0), silent, stats)
    build_dataset(Plan(str(photos), str(tmp_path / "b"), shard_recipe(), 0), silent)
    assert bytes_below(tmp_path / "a") == bytes_below(tmp_path / "b")
    assert set(stats.core_seconds) == set(KINDS) - {"copying"}
    assert stats.num_photos == watched.commit["ledger"]["num_inputs"]
    assert min(stats.core_seconds.values()) > 0
    assert stats.num_cores >= 2
    again = BuildStats()
    assert build_dataset(Plan(str(photos), str(tmp_path / "a"), shard_recipe(), 0), silent, again) == watched
    assert again.core_seconds == {}


@pytest.mark.usefixtures("ray_cluster")
def test_the_report_of_a_build_says_how_near_its_limit_it_was(photos: Path, tmp_path: Path) -> None:
    arguments = shard.Arguments(shard_recipe(), str(tmp_path / "data"), str(photos))
    report = shard.run(arguments)
    assert 0 < report["share_of_limit"] < 1
    assert report["bottleneck"] in (*KINDS, "scheduling")
    assert report["images_per_second"] > 0
    again = shard.run(arguments)
    assert again["images_per_second"] == 0  # nothing was built
    assert "bottleneck" not in again


@pytest.mark.usefixtures("ray_cluster")
def test_the_report_of_every_change_says_so_too(photos: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "data")
    shard.run(shard.Arguments(shard_recipe(), out, str(photos)))
    more = photo_folder(tmp_path / "more", 70)
    (more / "class1/0061.png").rename(more / "class1/new.png")
    for change in ({"add": str(more)}, {"remove": ("class1/new",)}, {"compact": True}):
        report = shard.run(shard.Change(out, **change))
        assert report["images_per_second"] > 0, change
        assert 0 < report["share_of_limit"] < 1
        assert report["bottleneck"] in (*KINDS, "scheduling")
