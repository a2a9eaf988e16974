"""KeyedRng as an argument: ranges, fairness, paths that cannot be confused, and the recorded words."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.keyed_rng import KeyedRng, PythonRng, derive_seed, hash_path, make_philox_state

PATHS = st.lists(st.integers() | st.text(max_size=5), max_size=4).map(tuple)


@given(low=st.integers(-100, 100), span=st.integers(0, 30), number=st.integers(0, 10**6))
def test_integer_lies_between_its_ends(low: int, span: int, number: int) -> None:
    rng = KeyedRng("ends", number)
    assert all(low <= rng.integer(low, low + span) <= low + span for _ in range(20))


@pytest.mark.parametrize(("low", "high"), [(0, 0), (0, 1), (-3, 3), (10, 16), (0, 99)])
def test_integer_takes_every_value_of_its_range(low: int, high: int) -> None:
    rng = KeyedRng("cover", low, high)
    assert {rng.integer(low, high) for _ in range(30 * (high - low + 1))} == set(range(low, high + 1))


def test_throws_of_dice_keep_to_their_sides_and_take_every_one() -> None:
    dice = KeyedRng("dice").integers(2000, 1, 2, 6, 100)
    assert dice.shape == (2000, 4)
    assert [sorted(set(column)) for column in dice.T.tolist()] == [list(range(sides)) for sides in (1, 2, 6, 100)]
    assert np.corrcoef(dice[:, 2], dice[:, 3])[0, 1] == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("high", [2**63, 2**64 - 1])
def test_integer_keeps_to_ranges_as_wide_as_a_word(high: int) -> None:
    drawn = [KeyedRng("wide", n).integer(0, high) for n in range(200)]
    assert max(drawn) <= high
    assert max(drawn) > high * 0.9
    assert min(drawn) < high * 0.1


def test_no_integer_of_an_empty_range() -> None:
    with pytest.raises(ValueError, match=r"no integer lies in \[1, 0\]"):
        KeyedRng("empty").integer(1, 0)


def chi_square(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> float:
    """Sum of squared deviations from equal counts, in units of the expected count."""
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("sides", [2, 3, 6, 10, 100])
def test_integers_are_uniform(sides: int) -> None:
    rng = KeyedRng("dice", sides)
    counts = np.bincount([rng.integer(0, sides - 1) for _ in range(200 * sides)], minlength=sides)
    assert chi_square(counts) < sides - 1 + 5 * (2 * sides) ** 0.5


def test_fractions_are_uniform_in_the_unit_interval() -> None:
    rng = KeyedRng("fractions")
    drawn = np.array([rng.fraction() for _ in range(5000)])
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert chi_square(np.bincount((drawn * 20).astype(int), minlength=20)) < 19 + 5 * 40**0.5


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_bits_are_as_many_as_asked(count: int) -> None:
    bits = KeyedRng("bits").bits(count)
    assert bits.shape == (count,)
    assert bits.dtype == np.uint8
    assert set(bits.tolist()) <= {0, 1}


def test_bits_are_fair() -> None:
    assert KeyedRng("fair").bits(100_000).mean() == pytest.approx(0.5, abs=0.01)


@given(count=st.integers(0, 300), number=st.integers(0, 10**6))
def test_permutation_holds_every_number_once(count: int, number: int) -> None:
    assert sorted(KeyedRng("permutation", number).permutation(count).tolist()) == list(range(count))


def test_all_permutations_are_equally_likely() -> None:
    drawn = [tuple(KeyedRng("fair", n).permutation(3).tolist()) for n in range(1200)]
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert chi_square(counts) < 5 + 5 * 12**0.5


@given(path=PATHS)
def test_same_path_gives_the_same_numbers(path: tuple[int | str, ...]) -> None:
    first, again = KeyedRng(*path), KeyedRng(*path)
    assert [first.word() for _ in range(3)] == [again.word() for _ in range(3)]


@given(one=PATHS, other=PATHS)
def test_different_paths_give_different_digests(one: tuple[int | str, ...], other: tuple[int | str, ...]) -> None:
    assert (hash_path(*one) == hash_path(*other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "bc"), ("ab", "c")),
        (("a", "b"), ("a/b",)),
        (("a", "b"), ("a,b",)),
        (("a", "b"), ('a","b',)),
        ((1, 2), (12,)),
        ((1,), ("1",)),
        (("a",), ("a", "")),
        (("é",), ("\\u00e9",)),
    ],
)
def test_paths_that_look_alike_have_chances_of_their_own(
    one: tuple[int | str, ...], other: tuple[int | str, ...]
) -> None:
    assert KeyedRng(*one).word() != KeyedRng(*other).word()
    assert derive_seed(*one) != derive_seed(*other)


def test_words_ahead_do_not_repeat_what_was_drawn() -> None:
    rng = KeyedRng("order")
    single = [rng.word() for _ in range(64)]
    assert not set(single) & set(rng.words(64).tolist())


@given(path=PATHS)
def test_seed_fits_into_31_bits(path: tuple[int | str, ...]) -> None:
    assert 0 <= derive_seed(*path) < 2**31


def test_drawing_leaves_the_global_generator_alone() -> None:
    np.random.seed(5)
    before = np.random.get_state(legacy=False)["state"]["key"].tolist()
    KeyedRng("apart").permutation(100)
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == before


def test_digest_is_the_sha256_of_the_path_as_json() -> None:
    assert hash_path(0, "mask", "a/1") == hashlib.sha256(b'[0,"mask","a/1"]').digest()


def test_recorded_numbers_are_drawn_again() -> None:
    rng = KeyedRng(0, "golden")
    assert [rng.word() for _ in range(3)] == [9632301915493035847, 10048741947145681103, 1118969066812729881]
    dice = KeyedRng(0, "golden")
    assert [dice.integer(1, 6) for _ in range(12)] == [4, 4, 1, 3, 1, 4, 1, 2, 4, 4, 3, 6]
    assert KeyedRng(0, "golden").permutation(8).tolist() == [2, 6, 4, 7, 3, 0, 1, 5]
    assert KeyedRng(0, "golden").bits(16).tolist() == [0, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1]
    assert KeyedRng(0, "golden").fraction() == 0.5221681331406917
    assert derive_seed(0, "golden") == 2033180409


@given(key=st.integers(0, 2**128 - 1), block=st.integers(0, 2**64 - 1), stream=st.integers(0, 2**64 - 1))
def test_a_set_state_is_that_of_a_fresh_generator(key: int, block: int, stream: int) -> None:
    philox: Any = np.random.Philox()
    philox.random_raw(3)
    philox.state = make_philox_state(key, block, stream)
    fresh = np.random.Philox(key=key, counter=block + (stream << 64))
    assert np.array_equal(np.random.Generator(philox).random(10), np.random.Generator(fresh).random(10))


@given(parts=st.lists(st.integers(0, 150), max_size=6))
def test_words_are_those_of_one_generator_however_they_are_asked_for(parts: list[int]) -> None:
    key = int.from_bytes(hash_path("parts")[:16], "little")
    whole = np.random.Philox(key=key).random_raw(1000).tolist()
    rng, other, asked = KeyedRng("parts"), KeyedRng("parts"), KeyedRng("parts")
    assert [word for part in parts for word in rng.words(part)] == whole[: sum(parts)]
    assert [word for part in parts for word in other.take(part)] == whole[: sum(parts)]
    assert [asked.word() for _ in range(sum(parts))] == whole[: sum(parts)]


def test_streams_of_several_threads_do_not_mix() -> None:
    def draw(number: int) -> list[int]:
        rng = KeyedRng("thread", number)
        return [rng.word() for _ in range(2000)]

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(draw, range(16)))
    assert together == [draw(number) for number in range(16)]


@given(key=st.integers(0, 2**64), bits=st.integers(1, 200))
def test_pythons_generator_follows_the_state_of_numpys(key: int, bits: int) -> None:
    def draw() -> list[float]:
        philox.state = make_philox_state(key)
        rng.seed()
        return [rng.gauss(), rng.random(), rng.randint(0, 10**30), rng.getrandbits(bits), rng.gauss()]

    philox: Any = np.random.Philox()
    rng = PythonRng(philox)
    first = draw()
    assert draw() == first
    assert 0 <= first[1] < 1
    assert 0 <= first[3] < 2**bits
    philox.state = make_philox_state(key + 1)
    assert rng.random() != first[1]


def test_pythons_generator_is_fair() -> None:
    rng = PythonRng(np.random.Philox(key=1))
    assert chi_square(np.bincount([rng.randrange(10) for _ in range(4000)], minlength=10)) < 9 + 5 * 18**0.5
    assert np.mean([rng.random() for _ in range(4000)]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([rng.getrandbits(130) >> 129 for _ in range(4000)]) == pytest.approx(0.5, abs=0.04)


def test_sides_in_a_tuple_are_refused_and_not_taken_for_one_die() -> None:
    with pytest.raises(TypeError):
        KeyedRng("dice").integers(3, (5, 7))  # type: ignore[arg-type]
