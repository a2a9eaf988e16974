"""Masked temperature attention by blocks: the same as with the whole matrix of scores, in a fraction of its memory."""

import resource
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nets.layers.masked_attention import temperature_attention

Rows = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def attend_whole(
    query: Tensor, key: Tensor, value: Tensor, hidden: Tensor, temperature: Tensor, level: float
) -> Tensor:
    """Equations 9 to 11 as they are printed."""
    scores = query @ key.transpose(1, 2)
    masked = scores * (1 - hidden[:, None]) + level * hidden[:, None]
    return torch.softmax(masked / temperature[:, None, None], dim=2) @ value


def make_rows(seed: int, num: int, num_queries: int, num_keys: int, width: int, hidden: float, tau: float) -> Rows:
    """Queries and keys of unit length, values, hidden keys, temperatures about `tau`."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(num, n, d, generator=generator)
        for n, d in ((num_queries, width), (num_keys, width), (num_keys, width + 1))
    )
    query, key = query / query.norm(dim=2, keepdim=True), key / key.norm(dim=2, keepdim=True)
    masked = (torch.rand(num, num_keys, generator=generator) < hidden).float()
    return query, key, value, masked, tau * (0.5 + torch.rand(num, generator=generator))


def compute_gradients(of: Rows, mixed: Tensor, seed: int = 0) -> list[Tensor]:
    """Of a random combination of the outputs, by queries, keys, values and temperatures."""
    weights = torch.randn(mixed.shape, generator=torch.Generator().manual_seed(seed), dtype=mixed.dtype)
    return list(torch.autograd.grad((mixed * weights).sum(), (*of[:3], of[4])))


def convert_to_float64(of: Rows) -> Rows:
    """The same in float64: in float32 a gradient by a low temperature is a small difference of large numbers."""
    query, key, value, hidden, temperature = of
    return query.double(), key.double(), value.double(), hidden.double(), temperature.double()


def require_gradients(of: Rows) -> Rows:
    """The same as leaves that want a gradient; which keys are hidden is no question of degree."""
    query, key, value, hidden, temperature = of
    return query.requires_grad_(), key.requires_grad_(), value.requires_grad_(), hidden, temperature.requires_grad_()


@settings(max_examples=60)
@given(
    st.integers(0, 9999),
    st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.integers(1, 30)),
    st.sampled_from([0.0, 0.3, 0.9]),
    st.sampled_from([0.1, 0.7, 5.0]),
    st.sampled_from([-1e4, -1.0, 0.0]),
)
def test_it_is_what_the_equations_say(
    seed: int, size: tuple[int, int, int, int], hidden: float, tau: float, level: float
) -> None:
    one, other = (require_gradients(convert_to_float64(make_rows(seed, *size, hidden, tau))) for _ in range(2))
    one[3][:, 0] = other[3][:, 0] = 0  # a key to look at; that all are hidden has a test of its own
    blocks, full = temperature_attention(*one, level), attend_whole(*other, level)
    assert torch.allclose(blocks, full, atol=1e-9)
    for mine, theirs in zip(compute_gradients(one, blocks), compute_gradients(other, full), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-9 * max(1.0, float(theirs.abs().max())))


def test_many_blocks_are_as_exact_as_one() -> None:
    one, other = (require_gradients(make_rows(3, 1, 3000, 2900, 18, 0.3, 0.2)) for _ in range(2))
    blocks, full = temperature_attention(*one, -1e4), attend_whole(*other, -1e4)
    assert (blocks - full).abs().max() < 1e-5
    for mine, theirs in zip(compute_gradients(one, blocks), compute_gradients(other, full), strict=True):
        assert (mine - theirs).abs().max() < 1e-5 * max(1.0, float(theirs.abs().max()))


def test_gradients_are_those_of_finite_differences() -> None:
    query, key, value, hidden, temperature = (t.double() for t in make_rows(5, 2, 4, 5, 3, 0.4, 0.6))
    hidden[:, 0] = 0
    leaves = [t.requires_grad_() for t in (query, key, value, temperature)]
    assert torch.autograd.gradcheck(lambda q, k, v, t: temperature_attention(q, k, v, hidden, t, -3.0), leaves)


def test_what_is_hidden_has_no_influence() -> None:
    query, key, value, hidden, temperature = make_rows(7, 2, 9, 12, 4, 0.5, 1.0)
    hidden[:, 0] = 0
    before = temperature_attention(query, key, value, hidden, temperature, -1e4)
    masked = hidden[..., None] == 1
    other_key, other_value = (torch.where(masked, torch.rand_like(t), t) for t in (key, value))
    assert torch.equal(temperature_attention(query, other_key, other_value, hidden, temperature, -1e4), before)
    other_value = torch.where(~masked, torch.rand_like(value), value)
    assert not torch.equal(temperature_attention(query, key, other_value, hidden, temperature, -1e4), before)


def test_where_all_is_hidden_all_counts_alike() -> None:
    query, key, value, hidden, temperature = make_rows(9, 2, 5, 7, 4, 1.1, 0.3)
    mixed = temperature_attention(query, key, value, hidden, temperature, -1e4)
    assert torch.allclose(mixed, value.mean(dim=1, keepdim=True).expand_as(mixed), atol=1e-6)


@given(st.integers(0, 9999), st.sampled_from([-0.002, -0.05, -1.0, -7.0]))
def test_below_temperature_0_what_is_hidden_stays_so_and_the_least_alike_count_most(seed: int, tau: float) -> None:
    query, key, _, hidden, temperature = make_rows(seed, 2, 9, 12, 4, 0.5, tau)
    hidden[:, 0] = 0
    shares = temperature_attention(query, key, torch.eye(12).expand(2, 12, 12), hidden, temperature, -1e4)
    assert not (shares * hidden[:, None]).any()
    seen = torch.where(hidden[:, None] == 1, torch.inf, query @ key.mT)
    assert torch.equal(shares.argmax(dim=2), seen.argmin(dim=2))


@pytest.mark.parametrize(("tau", "share"), [(0.01, 1.0), (1e6, 1 / 8)])
def test_a_low_temperature_copies_the_nearest_and_a_high_one_takes_the_mean(tau: float, share: float) -> None:
    key = torch.eye(8)[None]
    mixed = temperature_attention(key, key, key, torch.zeros(1, 8), torch.tensor([tau]), -1e4)
    assert torch.allclose(mixed.diagonal(dim1=1, dim2=2), torch.full((1, 8), share), atol=1e-4)


def test_under_autocast_it_stays_in_full_precision() -> None:
    of = require_gradients(make_rows(11, 1, 50, 60, 27, 0.2, 0.1))
    exact = temperature_attention(*of, -1e4)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = temperature_attention(*of, -1e4)
        slopes = compute_gradients(of, mixed)
    assert torch.equal(mixed, exact)
    assert all(torch.equal(a, b) for a, b in zip(slopes, compute_gradients(of, exact), strict=True))


def _print_peak_growth(by: str) -> None:
    """In a process of its own: prints by how many bytes attention over a map of 128x128 raises the peak of memory."""
    torch.set_num_threads(1)
    of = require_gradients(make_rows(0, 1, 128 * 128, 126 * 126, 32, 0.3, 0.5))
    attend = temperature_attention if by == "blocks" else attend_whole
    small = require_gradients(make_rows(0, 1, 16, 16, 32, 0.3, 0.5))
    compute_gradients(small, attend(*small, -1e4))  # what is loaded at the first use is not counted
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    compute_gradients(of, attend(*of, -1e4))
    print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


@pytest.mark.soak  # what it is compared with takes 10 GB, too much beside another test's Ray cluster
def test_at_128_px_the_peak_of_memory_is_less_than_an_eighth() -> None:
    def measure_peak(by: str) -> int:
        call = f"from tests.nets.test_masked_attention import _print_peak_growth; _print_peak_growth({by!r})"
        return int(subprocess.run([sys.executable, "-c", call], check=True, capture_output=True, text=True).stdout)

    blocks, full, matrix = measure_peak("blocks"), measure_peak("whole"), 4 * (128 * 128) * (126 * 126)
    assert full > matrix, "the whole matrix is not in what was measured"
    assert 8 * blocks < full
    assert 2 * blocks < matrix
