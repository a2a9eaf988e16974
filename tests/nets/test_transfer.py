"""Attention transfer beside its formula with whole matrices: values, gradients, and how much memory they take."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nets.layers import transfer
from nets.layers.transfer import attention_transfer
from tests.nets.references import compare_whole_matrices


def make_case(
    seed: int, number: int = 2, queries: int = 12, keys: int = 9, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Random rows of student and teacher, importance and hole; the student's and the importance want gradients."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(number, n, d, generator=generator, dtype=dtype) for n, d in
            ((queries, 5), (keys, 5), (queries, 3), (keys, 3))]  # fmt: skip
    importance = torch.rand(number, queries, generator=generator, dtype=dtype)
    hole = (torch.rand(number, queries, generator=generator) > 0.5).to(dtype)
    for tensor in (*rows[:2], importance):
        tensor.requires_grad_()
    return [*rows, importance, hole]


def differentiate(x: list[Tensor], distance: Tensor) -> tuple[Tensor, ...]:
    """Gradients by query, key and importance of a sum that weighs samples otherwise."""
    weights = torch.arange(1, len(distance) + 1, dtype=distance.dtype)
    return torch.autograd.grad((distance * weights).sum(), [x[0], x[1], x[4]])


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    number=st.integers(1, 3),
    queries=st.integers(1, 20),
    keys=st.integers(1, 20),
    block=st.sampled_from([1, 7, 50, 10_000]),
)
def test_it_is_its_formula_with_its_gradients(seed: int, number: int, queries: int, keys: int, block: int) -> None:
    x = make_case(seed, number, queries, keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "_BLOCK", block)
        found, exact = attention_transfer(*x), compare_whole_matrices(*x)
        assert torch.allclose(found, exact, atol=1e-12)
        for of, reference in zip(differentiate(x, found), differentiate(x, exact), strict=True):
            assert torch.allclose(of, reference, atol=1e-12)


def test_single_precision_is_exact_to_a_hundred_thousandth() -> None:
    x = make_case(0, 2, 1024, 256, torch.float32)
    wide = [t.detach().double().requires_grad_(t.requires_grad) for t in x]
    found, exact = attention_transfer(*x), compare_whole_matrices(*wide)
    assert torch.allclose(found.double(), exact, rtol=1e-5)
    for of, reference in zip(differentiate(x, found), differentiate(wide, exact), strict=True):
        assert float((of.double() - reference).abs().max()) < 1e-5 * float(reference.abs().max())


def test_equal_attentions_are_no_distance_apart() -> None:
    query, key, *_, importance, hole = make_case(0)
    assert attention_transfer(query, key, query.detach(), key.detach(), importance, hole).tolist() == [0, 0]


def test_shares_of_two_keys_are_what_one_reckons() -> None:
    query, key = torch.tensor([[[1.0]]]), torch.tensor([[[0.0], [float(torch.tensor(3.0).log())]]])
    flat = torch.zeros(1, 1, 1), torch.zeros(1, 2, 1)
    distance = attention_transfer(query, key, *flat, torch.tensor([[0.5]]), torch.ones(1, 1))
    assert distance.item() == pytest.approx(0.5 * ((0.75 - 0.5) ** 2 + (0.25 - 0.5) ** 2))


def test_queries_outside_the_hole_neither_count_nor_learn() -> None:
    x = make_case(1)
    hole = x[5].bool()
    by_query, _, by_importance = differentiate(x, attention_transfer(*x))
    assert not by_query[~hole].any()
    assert not by_importance[~hole].any()
    moved = [x[0] + (1 - x[5])[..., None], *x[1:]]
    assert torch.equal(attention_transfer(*moved), attention_transfer(*x))


def test_a_picture_without_a_hole_gives_nothing() -> None:
    x = make_case(2)
    x[5] = torch.zeros_like(x[5])
    assert attention_transfer(*x).tolist() == [0, 0]


def test_the_teacher_gets_no_gradient() -> None:
    x = make_case(0)
    taught = [x[2].requires_grad_(), x[3].requires_grad_()]
    gradients = torch.autograd.grad(attention_transfer(*x).sum(), taught, allow_unused=True)
    assert all(gradient is None for gradient in gradients)


def test_a_second_derivative_is_refused() -> None:
    x, scale = make_case(0), torch.ones(2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((attention_transfer(*x) * scale).sum(), x[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()  # type: ignore[no-untyped-call]


def test_mixed_precision_compares_in_single_precision() -> None:
    x = [t.detach().bfloat16() for t in make_case(0, 1, 64, 64, torch.float32)]
    with torch.autocast("cpu", torch.bfloat16):
        distance = attention_transfer(*x)
    assert distance.dtype == torch.float32
    assert torch.allclose(distance, compare_whole_matrices(*(t.float() for t in x)), rtol=1e-5)


_PEAK = """
import sys, torch
from pathlib import Path
from nets.layers.transfer import attention_transfer
from tests.nets.references import compare_whole_matrices
def kib(name):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith(name))
torch.set_num_threads(1)
size = int(sys.argv[2])
rows = [torch.randn(1, size, 64).requires_grad_(k < 2) for k in range(4)]
importance, hole = torch.rand(1, size).requires_grad_(), torch.ones(1, size)
Path("/proc/self/clear_refs").write_text("5")  # reset the peak
before = kib("VmRSS")
distance = {"blocks": attention_transfer, "whole": compare_whole_matrices}[sys.argv[1]](*rows, importance, hole)
distance.sum().backward()
print(kib("VmHWM") - before)
"""


def measure_peak_kib(way: str, size: int) -> int:
    """How much more memory a process took at most for the distance of so many queries and keys and its gradients."""
    done = subprocess.run([sys.executable, "-c", _PEAK, way, str(size)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
def test_at_128_by_128_it_takes_an_eighth_of_the_memory_at_most() -> None:
    assert measure_peak_kib("blocks", 128**2) * 8 <= measure_peak_kib("whole", 128**2)


@pytest.mark.slow
def test_its_memory_grows_with_the_number_of_positions_and_not_with_its_square() -> None:
    assert 0 < measure_peak_kib("blocks", 2**14) < 2.5 * measure_peak_kib("blocks", 2**13)
