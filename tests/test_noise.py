"""What networks are given: noise that belongs to the samples, whoever draws it, and of the right distribution."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from nets.procedures.noise import make_keyed_noise, make_noise_keys
from pipelines import noise as noise_of
from pipelines.keyed_rng import KeyedRng
from pipelines.noise import SampleNoise
from pipelines.records import Batch
from pipelines.training.loop import to_inputs

KINDS = pytest.mark.parametrize("kind", ["uniform", "normal"])


def draw(kind: str, samples: list[tuple[int, int]], *shape: int, seed: int = 0, purpose: str = "test") -> Tensor:
    """Noise of the samples."""
    noise = SampleNoise(seed, samples)
    return noise.uniform(purpose, *shape) if kind == "uniform" else noise.normal(purpose, *shape)


def batch(positions: list[int], num_masks: int = 3) -> Batch:
    """Black photos at these positions."""
    image = torch.zeros(len(positions), 3, 4, 4, dtype=torch.uint8)
    mask = torch.zeros(len(positions), num_masks, 4, 4, dtype=torch.uint8)
    return Batch(tuple(map(str, positions)), tuple(positions), image, mask)


@KINDS
@given(number=st.integers(1, 12), world=st.integers(1, 5), seed=st.integers(0, 2**31 - 1))
def test_noise_is_the_same_for_any_split_over_ranks(kind: str, number: int, world: int, seed: int) -> None:
    samples = [(position, k) for position in range(number) for k in range(2)]
    together = dict(zip(samples, draw(kind, samples, 3, 2, seed=seed), strict=True))
    for rank in range(world):
        own = [s for s in samples if s[0] % world == rank]
        if own:
            for sample, numbers in zip(own, draw(kind, own, 3, 2, seed=seed), strict=True):
                assert torch.equal(numbers, together[sample])


@pytest.mark.parametrize("world", [1, 2, 4])
def test_inputs_of_all_ranks_together_have_the_noise_of_one(world: int) -> None:
    whole = to_inputs(batch(list(range(8))), seed=3).noise.normal("z", 5).view(8, 3, 5)
    for rank in range(world):
        positions = list(range(rank, 8, world))
        part = to_inputs(batch(positions), seed=3).noise.normal("z", 5).view(-1, 3, 5)
        assert torch.equal(part, whole[positions])


@KINDS
def test_seed_purpose_sample_and_mask_each_change_the_noise(kind: str) -> None:
    one = draw(kind, [(0, 0)], 50)
    others = [
        draw(kind, [(0, 0)], 50, seed=1),
        draw(kind, [(0, 0)], 50, purpose="other"),
        draw(kind, [(1, 0)], 50),
        draw(kind, [(0, 1)], 50),
    ]
    assert all(not torch.isclose(one, other).any() for other in others)
    assert torch.equal(one, draw(kind, [(0, 0)], 50))


@KINDS
@pytest.mark.parametrize("shape", [(), (1,), (3, 4, 5)], ids=str)
def test_noise_is_float32_of_samples_by_shape(kind: str, shape: tuple[int, ...]) -> None:
    numbers = draw(kind, [(0, 0), (7, 1)], *shape)
    assert numbers.shape == (2, *shape)
    assert numbers.dtype == torch.float32


def test_uniform_numbers_fill_the_interval_evenly() -> None:
    numbers = draw("uniform", [(p, 0) for p in range(100)], 1000)
    assert 0 <= float(numbers.min()) < 1e-4
    assert 1 - 1e-4 < float(numbers.max()) < 1
    shares = torch.histc(numbers, 10, 0, 1) / numbers.numel()
    assert torch.allclose(shares, torch.full((10,), 0.1), atol=5 * (0.09 / numbers.numel()) ** 0.5)


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_even_the_outermost_words_give_numbers_in_range(word: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Outermost(KeyedRng):
        def words(self, count: int) -> NDArray[np.uint64]:
            return np.full(count, word, np.uint64)

    monkeypatch.setattr(noise_of, "KeyedRng", Outermost)
    uniform = draw("uniform", [(0, 0)], 4)
    assert bool((uniform >= 0).all() and (uniform < 1).all())
    assert bool(torch.isfinite(draw("normal", [(0, 0)], 4)).all())


def test_normal_numbers_have_the_moments_of_a_normal_distribution() -> None:
    numbers = draw("normal", [(p, 0) for p in range(100)], 1000).double()
    error = numbers.numel() ** -0.5
    assert float(numbers.mean()) == pytest.approx(0, abs=5 * error)
    assert float(numbers.var()) == pytest.approx(1, abs=5 * error * 2**0.5)
    assert float((numbers**3).mean()) == pytest.approx(0, abs=5 * error * 15**0.5)
    assert float((numbers**4).mean()) == pytest.approx(3, abs=5 * error * 96**0.5)
    assert float((numbers.abs() < 1.959964).double().mean()) == pytest.approx(0.95, abs=5 * error * 0.22)


def test_noise_of_neighboring_numbers_and_samples_is_uncorrelated() -> None:
    numbers = draw("normal", [(p, 0) for p in range(200)], 500)
    for a, b in ((numbers[:, :-1], numbers[:, 1:]), (numbers[:-1], numbers[1:])):
        assert abs(float((a * b).mean())) < 5 * a.numel() ** -0.5


def test_the_keys_of_samples_give_the_noise_of_the_samples() -> None:
    noise = SampleNoise(3, [("a", "mask", 1), ("b", "mask", 0)])
    of = make_keyed_noise(noise.keys("fill"))
    assert torch.equal(torch.stack([of(photo)(0, (2, 3)) for photo in range(2)]), noise.normal("fill", 2, 3))


def test_noise_of_a_seed_differs_by_seed_fill_and_window_and_not_by_photo() -> None:
    drawn = {
        (seed, fill, window): make_keyed_noise(make_noise_keys(seed, fill, 2))(0)(window, (50,))
        for seed in (-1, 0, 1)
        for fill in range(3)
        for window in range(3)
    }
    for one, numbers in drawn.items():
        assert not any(torch.equal(numbers, other) for name, other in drawn.items() if name != one)
    of = make_keyed_noise(make_noise_keys(7, 1, 2))
    assert torch.equal(of(0)(4, (3, 2)), of(1)(4, (3, 2)))


def test_noise_of_a_seed_is_what_it_always_was() -> None:
    numbers = make_keyed_noise(make_noise_keys(7, 2, 1))(0)(3, (2, 3))
    expected = [[0.8348531, 1.2429802, -0.4078097], [-0.2305536, 1.2012926, -0.114389]]
    assert torch.allclose(numbers, torch.tensor(expected), rtol=0, atol=1e-6)
