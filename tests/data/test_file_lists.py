"""Published lists and selections: laws over many of them, and how much memory a long list takes."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.data.archive.file_lists import PublishedList, draw_subset, photos_by_number
from pipelines.data.archive.tree import Tree
from pipelines.records import Absent, Found, Photo, UsageError
from tests.data.trees import put, tar_bytes, zip_bytes

PATHS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


def describe(found: Found, value: int) -> Photo:
    return found.as_photo(f"split{value}")


@given(st.dictionaries(PATHS, st.integers(-1, 400)), st.lists(PATHS, unique=True))
def test_every_file_and_every_name_is_accounted_for_once(names: dict[str, int], strangers: list[str]) -> None:
    there = [path for number, path in enumerate(names) if number % 2] + [s for s in strangers if s not in names]
    published = PublishedList("the list", lambda: iter(names.items()))
    photos = list(published.photos((Found(path, 1) for path in there), describe, "odd"))
    assert [photo.path for photo in photos] == there
    for photo in photos:
        if photo.path in names:
            assert (photo.split, photo.refusal) == (f"split{names[photo.path]}", None)
        else:
            assert (photo.split, photo.refusal) == ("odd", "the list does not name it")
    assert [item.path for item in published.absent_files()] == [path for path in names if path not in there]
    assert list(published.absent_files()) == []


def test_what_is_named_twice_alike_counts_once() -> None:
    published = PublishedList("the list", lambda: iter([("a", 1), ("b", 2), ("a", 1), ("b", 2)]))
    assert [photo.split for photo in published.photos([Found("b", 1)], describe)] == ["split2"]
    assert list(published.absent_files()) == [Absent("a")]


def test_a_list_that_contradicts_itself_is_refused_naming_the_file() -> None:
    with pytest.raises(UsageError, match="the list names b twice, with different entries"):
        PublishedList("the list", lambda: iter([("a", 1), ("b", 2), ("c", 2), ("b", 3)]))


def test_names_whose_digests_begin_alike_are_distinguished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.data.archive.file_lists._hash_path", lambda path: bytes(15) + path.encode())
    published = PublishedList("the list", lambda: iter([("c", 3), ("a", 1), ("b", 2)]))
    photos = list(published.photos((Found(path, 1) for path in "bcd"), describe))
    assert [photo.split for photo in photos] == ["split2", "split3", "train"]
    assert list(published.absent_files()) == [Absent("a")]


def test_a_file_that_cannot_be_read_is_refused_and_not_absent() -> None:
    published = PublishedList("the list", lambda: iter([("a", 1)]))
    (photo,) = published.photos([Found("a", 1, refusal="it is a link")], describe)
    assert (photo.refusal, list(published.absent_files())) == ("it is a link", [])


@given(st.sets(st.integers(0, 10_000), min_size=1), st.integers(0, 50), st.integers(0, 10_000))
def test_a_drawn_selection_depends_on_each_candidate_alone(candidates: set[int], number: int, other: int) -> None:
    chosen = draw_subset(number, candidates, "test")
    assert len(chosen) == min(number, len(candidates))
    assert chosen == draw_subset(number, sorted(candidates, reverse=True), "test")
    assert draw_subset(number, candidates | {other}, "test") - {other} <= chosen
    assert chosen <= draw_subset(number + 1, candidates, "test")


def test_selections_for_different_purposes_differ() -> None:
    half = [draw_subset(500, range(1000), purpose) for purpose in ("one", "two")]
    assert 200 < len(half[0] & half[1]) < 300


def test_the_selections_of_the_papers_stay_what_they_are() -> None:
    """Recorded once: datasets are built with them, and another draw would be another split under the same name."""
    assert sum(draw_subset(3000, range(30_000), "celebahq", "deepgin")) == 45_153_409
    assert sum(draw_subset(1000, range(60_000, 70_000), "ffhq", "deepgin")) == 65_010_601
    assert sum(draw_subset(2000, range(1, 36_501), "places365", "mhtma")) == 36_562_990


@given(st.lists(st.integers(-3, 12), max_size=20))
def test_numbers_are_taken_once_and_missing_ones_are_named(numbers: list[int]) -> None:
    items = list(photos_by_number((Found(str(n), 1) for n in numbers), 10, int, str, lambda n: f"split{n}"))
    photos = [item for item in items if isinstance(item, Photo)]
    assert [photo.path for photo in photos] == [str(number) for number in numbers]
    kept = [photo for photo in photos if photo.refusal is None]
    assert {photo.path for photo in kept} == {str(n) for n in numbers if 0 <= n < 10}
    assert len(kept) == len({photo.path for photo in kept})
    assert all(photo.split == f"split{photo.path}" for photo in kept)
    absent = [item.path for item in items if isinstance(item, Absent)]
    assert absent == [str(n) for n in range(10) if n not in numbers]


@pytest.mark.slow
def test_a_list_of_a_million_names_takes_21_bytes_a_name() -> None:
    def entries() -> Iterator[tuple[str, int]]:
        return ((f"data_256/a/airfield/{number:08d}.jpg", number % 365) for number in range(1_000_000))

    tracemalloc.start()
    published = PublishedList("the list", entries)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(published) == 1_000_000
    assert held < 22_000_000
    assert peak < 80_000_000


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_an_archive_of_300_000_files_is_listed_in_some_megabytes(suffix: str, tmp_path: Path) -> None:
    names = dict.fromkeys((f"class{n % 365}/{n:08d}.jpg" for n in range(300_000)), b"")
    uri = put(str(tmp_path / f"all{suffix}"), tar_bytes(names) if suffix == ".tar" else zip_bytes(names))
    del names
    tracemalloc.start()
    num_files = sum(found.refusal is None for found in Tree(uri, (), "memory://never").files())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_files == 300_000
    assert peak < 30_000_000  # 300,000 objects would be three times that; threads of other tests count as well
