"""The state of a training: fresh weights from the recipe alone, and the way into a checkpoint and out of it again."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load

from nets.deepgin.network import DeepGINConfig
from pipelines.checkpoints import Checkpoint, open_checkpoint
from pipelines.manifest import Dataset
from pipelines.records import CorruptDataError, UsageError
from pipelines.stream.batching import Stream
from pipelines.training.run import TrainRun
from pipelines.training.state import TrainState
from tests.making import train_recipe
from tests.training.test_loop import Trained

FILES = ("adam.critic", "adam.generator", "critic", "generator")


def weights(state: TrainState) -> dict[str, torch.Tensor]:
    """Every tensor of every network, by name."""
    networks = state.objective.networks
    return {f"{n}.{key}": tensor.clone() for n in networks for key, tensor in networks[n].state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether the names are the same and every bit is."""
    return one.keys() == other.keys() and all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def global_states() -> list[Any]:
    """The states of the generators that everybody shares: PyTorch's, Python's and NumPy's."""
    numpy: dict[str, Any] = np.random.get_state(legacy=False)
    return [torch.get_rng_state().tolist(), random.getstate(), numpy["state"]["key"].tolist(), numpy["state"]["pos"]]


@pytest.fixture
def checkpoint(trained: TrainRun) -> Checkpoint:
    return open_checkpoint(trained.out)


def test_fresh_weights_do_not_depend_on_the_global_seed() -> None:
    torch.manual_seed(1)
    one = weights(TrainState(train_recipe()))
    torch.manual_seed(2)
    torch.rand(100)
    assert same(one, weights(TrainState(train_recipe())))


def test_fresh_weights_depend_on_the_seed_of_the_recipe() -> None:
    assert not same(weights(TrainState(train_recipe())), weights(TrainState(train_recipe(seed=1))))


def test_global_generators_are_left_alone() -> None:
    before = global_states()
    TrainState(train_recipe())
    assert global_states() == before


def test_training_leaves_the_global_generator_alone(dataset: Dataset) -> None:
    recipe = train_recipe()
    state, stream = TrainState(recipe), Stream((dataset,), recipe.stream, recipe.seed)
    torch.set_num_threads(1)
    before = global_states()
    Trained(recipe, state).run(stream, 20)
    assert global_states() == before


def test_optimizers_are_those_of_the_recipe() -> None:
    recipe = train_recipe()
    groups = {name: o.param_groups[0] for name, o in TrainState(recipe).optimizers.items()}
    assert {name: (g["lr"], tuple(g["betas"])) for name, g in groups.items()} == {
        name: (o.learning_rate, o.betas) for name, o in recipe.optimizers.items()
    }


def test_a_restored_state_saves_the_same_bytes_again(checkpoint: Checkpoint, tmp_path: Path) -> None:
    state = TrainState(train_recipe())
    state.restore(checkpoint)
    assert state.images_seen == 32
    again = state.snapshot({}).save(str(tmp_path))
    assert [again.read(name) for name in FILES] == [checkpoint.read(name) for name in FILES]


def test_a_checkpoint_holds_weights_moments_and_step_counts(checkpoint: Checkpoint) -> None:
    moments = load(checkpoint.read("adam.generator"))
    for name in load(checkpoint.read("generator")):
        assert {f"{name}.step", f"{name}.exp_avg", f"{name}.exp_avg_sq"} <= moments.keys()
    assert {float(tensor) for key, tensor in moments.items() if key.endswith(".step")} == {8.0}
    steps = {float(t) for key, t in load(checkpoint.read("adam.critic")).items() if key.endswith(".step")}
    assert steps == {4.0}  # the critic joins in at half of the steps


def test_a_checkpoint_is_safetensors_and_json_only(checkpoint: Checkpoint) -> None:
    files = {path.name for path in Path(checkpoint.uri).iterdir()}
    assert files == {"state.json", *(f"{name}.safetensors" for name in FILES)}
    assert json.loads((Path(checkpoint.uri) / "state.json").read_bytes())["images_seen"] == 32


def test_steps_after_a_snapshot_do_not_change_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """It is written while they run."""
    state = TrainState(train_recipe())
    state.restore(checkpoint)
    snapshot = state.snapshot({})
    for optimizer in state.optimizers.values():
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    saved = snapshot.save(str(tmp_path))
    assert [saved.read(name) for name in FILES] == [checkpoint.read(name) for name in FILES]


def test_a_fresh_state_saves_without_moments_and_comes_back(tmp_path: Path) -> None:
    fresh, other = TrainState(train_recipe()), TrainState(train_recipe(seed=5))
    other.restore(fresh.snapshot({}).save(str(tmp_path)))
    assert same(weights(fresh), weights(other))
    assert other.images_seen == 0
    assert all(not o.state for o in other.optimizers.values())


def test_the_tensors_of_another_network_are_refused(checkpoint: Checkpoint) -> None:
    wide = replace(train_recipe().objective, network=DeepGINConfig(12, 1, 1))
    with pytest.raises(UsageError, match=r"checkpoints/000000000032 does not fit the recipe's generator"):
        TrainState(train_recipe(objective=wide)).restore(checkpoint)


def test_a_changed_byte_in_the_moments_is_damage_that_names_the_file(checkpoint: Checkpoint, tmp_path: Path) -> None:
    state = TrainState(train_recipe())
    state.restore(checkpoint)
    saved = state.snapshot({}).save(str(tmp_path))
    victim = Path(saved.uri) / "adam.critic.safetensors"
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    with pytest.raises(CorruptDataError, match=r"adam\.critic\.safetensors is damaged"):
        TrainState(train_recipe()).restore(saved)


def test_an_average_is_the_mean_of_the_first_steps_and_then_moves_slowly() -> None:
    state, seen = TrainState(train_recipe(average_images=12)), []
    parameter = next(state.generator.parameters())
    assert state.average is not None
    mean = next(state.average.parameters())
    for number in range(6):
        with torch.no_grad():
            parameter.fill_(float(number))
        state.advance(4)
        seen.append(float(mean.flatten()[0]))
    assert seen[:3] == pytest.approx([0.0, 0.5, 1.0])
    assert seen[3:] == pytest.approx([1 + 2 / 3, 2.4444444, 3.2962963])
    assert state.eval_generator is state.average


def test_an_average_is_kept_and_taken_up_again_and_is_what_is_registered(tmp_path: Path) -> None:
    state, again = (TrainState(train_recipe(average_images=12)) for _ in range(2))
    for _ in range(3):
        with torch.no_grad():
            next(state.generator.parameters()).add_(1.0)
        state.advance(4)
    checkpoint = state.snapshot({}).save(str(tmp_path))
    again.restore(checkpoint)
    assert state.average is not None
    assert again.average is not None
    assert same(state.average.state_dict(), again.average.state_dict())
    assert not same(state.average.state_dict(), state.generator.state_dict())
    assert checkpoint.generator == "average"
    assert same(checkpoint.tensors(checkpoint.generator), state.average.state_dict())
