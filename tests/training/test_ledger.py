"""The ledger of photos seen: the same for any division of the work, another for any other sequence."""

from hypothesis import given
from hypothesis import strategies as st

from infra.world import World
from pipelines.training.ledger import Ledger

KEYS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=2, max_size=24)


def digest_of(keys: list[str], positions: list[int]) -> int:
    """Of one process that saw them all."""
    ledger = Ledger()
    ledger.take(keys, positions)
    return ledger.over(World())


@given(KEYS, st.randoms(use_true_random=False))
def test_it_does_not_matter_who_saw_which_photo_and_when(keys: list[str], chance: object) -> None:
    positions = list(range(len(keys)))
    order = sorted(positions, key=lambda _: chance.random())  # type: ignore[attr-defined]
    parts = [Ledger() for _ in range(3)]
    for position in order:
        parts[position % 3].take([keys[position]], [position])
    whole = Ledger(sum(part.digest for part in parts) % 2**48)
    assert whole.over(World()) == digest_of(keys, positions)


@given(KEYS, st.data())
def test_two_photos_in_each_others_place_are_noticed(keys: list[str], data: st.DataObject) -> None:
    one, other = (data.draw(st.integers(0, len(keys) - 1)) for _ in range(2))
    swapped = list(keys)
    swapped[one], swapped[other] = keys[other], keys[one]
    positions = list(range(len(keys)))
    assert (digest_of(swapped, positions) == digest_of(keys, positions)) == (swapped == keys)


@given(KEYS)
def test_a_photo_that_is_missing_or_there_twice_is_noticed(keys: list[str]) -> None:
    positions = list(range(len(keys)))
    whole = digest_of(keys, positions)
    assert digest_of(keys[:-1], positions[:-1]) != whole
    assert digest_of([*keys, keys[0]], [*positions, 0]) != whole


def test_a_ledger_goes_on_where_it_was() -> None:
    keys, positions = [f"photo{number}" for number in range(9)], list(range(9))
    first = digest_of(keys[:4], positions[:4])
    assert Ledger(first).over(World()) == first
    resumed = Ledger(first)
    resumed.take(keys[4:], positions[4:])
    assert resumed.over(World()) == digest_of(keys, positions)
