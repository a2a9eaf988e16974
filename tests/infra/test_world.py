"""Two real processes on loopback: what they average is the mean, and gradients of shares are those of the whole."""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from infra.settings import PROJECT_ROOT
from infra.world import RankLostError, World, get_world
from nets.layers.convolution import lay_channels_last

pytestmark = pytest.mark.thorough

NUM_RANKS = 2
Work = Callable[[World, Path], None]


def _rank(rank: int, work: Work, folder: Path) -> None:
    """One process of the world."""
    torch.set_num_threads(1)
    store, patience = f"file://{folder}/store", timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=NUM_RANKS, timeout=patience)
    work(get_world(), folder)
    dist.destroy_process_group()


def together(work: Work, folder: Path) -> None:
    """Runs the work in all processes of a world and waits for them."""
    with pytest.MonkeyPatch.context() as patch, ProcessPoolExecutor(NUM_RANKS, get_context("spawn")) as pool:
        patch.syspath_prepend(PROJECT_ROOT)  # goes over to the processes, which import this file
        list(pool.map(_rank, range(NUM_RANKS), repeat(work), repeat(folder)))


def load_saved(folder: Path, rank: int) -> dict[str, Tensor]:
    """What this rank has left in the folder."""
    values: dict[str, Tensor] = torch.load(folder / f"{rank}.pt")
    return values


def network() -> nn.Module:
    """A network with the same weights on every rank, laid out as in training."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 1, 3))
    lay_channels_last(layers)
    return layers


def gradients_of(samples: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the mean loss over these samples."""
    layers = network()
    return torch.autograd.grad(layers(samples).square().mean(), list(layers.parameters()))


def samples() -> Tensor:
    """Eight small pictures, the same in every process."""
    return torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def exchange(world: World, folder: Path) -> None:
    """Everything that ranks do with each other, its results left in the folder."""
    numbers = torch.tensor([world.rank, 10.0 * world.rank])
    table = torch.arange(6.0).view(2, 3).t() + world.rank
    scalar, clock = torch.tensor(float(world.rank)), torch.tensor([2.0**40 + world.rank], dtype=torch.float64)
    gradients = gradients_of(samples()[world.rank :: world.size])
    world.average([numbers, table, scalar])
    world.average([clock])
    world.average(gradients)
    first, second = torch.full((3,), 1.0 + world.rank), torch.full((3,), 11.0 + world.rank)
    world.average([first])
    world.average([second])
    world.average([])
    broken = world.average([torch.tensor([1.0, float("inf") if world.rank else 2.0])])
    facts = torch.tensor([world.rank, world.size])
    values = {"facts": facts, "numbers": numbers, "table": table, "scalar": scalar, "clock": clock}
    values |= {"first": first, "second": second, "broken": broken}
    torch.save(values | {f"gradient{i}": g for i, g in enumerate(gradients)}, folder / f"{world.rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """What each of the two ranks has after the exchange."""
    folder = tmp_path_factory.mktemp("world")
    together(exchange, folder)
    return [load_saved(folder, rank) for rank in range(NUM_RANKS)]


def test_every_process_knows_its_rank_and_the_size(ranks: list[dict[str, Tensor]]) -> None:
    assert [found["facts"].tolist() for found in ranks] == [[0, 2], [1, 2]]


def test_averages_are_the_mean_in_every_shape_and_layout(ranks: list[dict[str, Tensor]]) -> None:
    for found in ranks:
        assert found["numbers"].tolist() == [0.5, 5.0]
        assert found["table"].tolist() == [[0.5, 3.5], [1.5, 4.5], [2.5, 5.5]]
        assert found["scalar"].item() == 0.5
        assert found["clock"].item() == 2.0**40 + 0.5


def test_all_know_whose_numbers_were_not_finite(ranks: list[dict[str, Tensor]]) -> None:
    assert [found["broken"].tolist() for found in ranks] == [[False, True]] * NUM_RANKS


def test_an_average_leaves_the_one_before_it_alone(ranks: list[dict[str, Tensor]]) -> None:
    """Though both pass through the same memory."""
    for found in ranks:
        assert found["first"].tolist() == [1.5] * 3
        assert found["second"].tolist() == [11.5] * 3


def test_averaged_gradients_of_the_shares_are_those_of_the_whole_batch(ranks: list[dict[str, Tensor]]) -> None:
    for i, gradient in enumerate(gradients_of(samples())):
        for found in ranks:
            assert torch.allclose(found[f"gradient{i}"], gradient, rtol=1e-5, atol=1e-7)


def test_all_ranks_hold_the_same_bits(ranks: list[dict[str, Tensor]]) -> None:
    first, second = ranks
    for name in first.keys() - {"facts"}:
        assert torch.equal(first[name], second[name])


def wait_for_the_slow(world: World, folder: Path) -> None:
    """Rank 1 comes late and leaves a file before it comes."""
    if world.rank == 1:
        time.sleep(0.5)
        (folder / "late").touch()
    world.barrier()
    assert (folder / "late").exists()


def test_a_barrier_waits_for_every_rank(tmp_path: Path) -> None:
    together(wait_for_the_slow, tmp_path)


def test_a_group_that_was_ended_meanwhile_is_a_loss_of_others() -> None:
    with pytest.raises(RankLostError, match=r"another rank was lost: .*process group"):
        World(0, 2).barrier()


def test_alone_every_exchange_changes_nothing() -> None:
    world, tensor = World(), torch.tensor([1.0, 2.0])
    world.average([tensor])
    world.barrier()
    assert tensor.tolist() == [1.0, 2.0]
    assert get_world() == World(0, 1)
