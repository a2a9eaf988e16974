"""The ledger of photos seen: the same for any division of the work, another for any other sequence."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from hypothesis import given
from hypothesis import strategies as st

from infra.world import World
from pipelines.training.state import Ledger


class OneOf(World):
    """A rank whose part in the exchange is known beforehand, with those of the others."""

    others: ClassVar[list[torch.Tensor]] = []

    def average(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        for tensor in tensors:
            tensor.copy_(torch.stack([tensor, *self.others]).mean(dim=0))
        return torch.zeros(self.size, dtype=torch.bool)


def halves_of(ledger: Ledger) -> torch.Tensor:
    """What a rank gives to the exchange."""
    return torch.tensor([ledger.digest >> 24, ledger.digest % 2**24], dtype=torch.float64)


def over(ledgers: list[Ledger]) -> int:
    """The digest that the first of these ranks gets."""
    world = OneOf(0, len(ledgers))
    OneOf.others = [halves_of(ledger) for ledger in ledgers[1:]]
    return ledgers[0].over(world)


KEYS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=2, max_size=24)


def hash_path(keys: list[str], positions: list[int]) -> int:
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
    assert over(parts) == hash_path(keys, positions)


@given(st.lists(st.integers(0, 2**48 - 1) | st.just(2**48 - 1), min_size=1, max_size=300))
def test_the_sum_over_many_ranks_is_exact(digests: list[int]) -> None:
    assert over([Ledger(digest) for digest in digests]) == sum(digests) % 2**48


@given(KEYS, st.data())
def test_two_photos_in_each_others_place_are_noticed(keys: list[str], data: st.DataObject) -> None:
    one, other = (data.draw(st.integers(0, len(keys) - 1)) for _ in range(2))
    swapped = list(keys)
    swapped[one], swapped[other] = keys[other], keys[one]
    positions = list(range(len(keys)))
    assert (hash_path(swapped, positions) == hash_path(keys, positions)) == (swapped == keys)


@given(KEYS)
def test_a_photo_that_is_missing_or_there_twice_is_noticed(keys: list[str]) -> None:
    positions = list(range(len(keys)))
    whole = hash_path(keys, positions)
    assert hash_path(keys[:-1], positions[:-1]) != whole
    assert hash_path([*keys, keys[0]], [*positions, 0]) != whole


def test_a_ledger_goes_on_where_it_was() -> None:
    keys, positions = [f"photo{number}" for number in range(9)], list(range(9))
    first = hash_path(keys[:4], positions[:4])
    assert Ledger(first).over(World()) == first
    resumed = Ledger(first)
    resumed.take(keys[4:], positions[4:])
    assert resumed.over(World()) == hash_path(keys, positions)
