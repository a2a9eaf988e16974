"""The learning step: how often the generator runs, what the clock decides, and what is a fault."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from infra.world import World
from nets.deepgin.objective import DeepGINObjectiveConfig
from pipelines.manifest import Dataset
from pipelines.records import Batch
from pipelines.stream.batching import Stream
from pipelines.training.loop import Meter, Point, to_inputs, train
from pipelines.training.recipe import AdamConfig, TrainRecipe
from pipelines.training.state import TrainState
from pipelines.training.updates import NonFiniteError
from tests.making import train_recipe

pytestmark = pytest.mark.thorough


@dataclass
class Trained:
    """A training in this process, and all that its loop reported while it ran."""

    recipe: TrainRecipe
    state: TrainState
    points: list[Point] = field(default_factory=list)
    committed: list[list[Point]] = field(default_factory=list)

    def run(self, stream: Stream, until_images: int, world: World = World()) -> "Trained":  # noqa: B008 - frozen
        """Trains up to the clock."""
        torch.set_num_threads(1)  # as every rank does; more of them only wait for each other on a busy machine
        train(
            self.recipe,
            self.state,
            stream,
            world,
            self,
            until_images=until_images,
        )
        return self

    def begin_step(self, images_seen: int) -> None:
        """Called before each step."""

    def observe(self, point: Point) -> None:
        """Keep a point."""
        self.points.append(point)

    def commit(self, points: list[Point]) -> bool:
        """Keep the points of a commit; the training goes on."""
        self.committed.append(points)
        return False

    def report_incident(self, line: str) -> None:
        """Fail: these streams have no incidents."""
        raise AssertionError(line)

    def weights(self, name: str) -> dict[str, Tensor]:
        """A copy of the tensors of a network."""
        return {key: tensor.clone() for key, tensor in self.state.objective.networks[name].state_dict().items()}

    def gradient_norm(self, name: str) -> float:
        """The norm of the gradients that the last update of a network was made with."""
        gradients = [p.grad for p in self.state.objective.networks[name].parameters() if p.grad is not None]
        return float(torch.stack([g.norm() for g in gradients]).norm())


class RecordingStream(Stream):
    """The stream, with a note of every position it gave."""

    positions: list[int]

    def batches(self, images_seen: int, batch_size: int, world: World, num_loader_workers: int = 0) -> Iterator[Batch]:
        self.positions = []
        for batch in super().batches(images_seen, batch_size, world):
            self.positions += batch.positions
            yield batch


def fresh(**changes: Any) -> Trained:
    """The small recipe with changes, not trained yet."""
    recipe = train_recipe(**changes)
    return Trained(recipe, TrainState(recipe))


def stream_of(dataset: Dataset) -> RecordingStream:
    return RecordingStream((dataset,), train_recipe().stream, 0)


def objective(**changes: Any) -> DeepGINObjectiveConfig:
    small: DeepGINObjectiveConfig = replace(train_recipe().objective, **changes)
    return small


def count_runs(network: nn.Module) -> list[int]:
    """A list that grows by the batch size with every run of the network."""
    sizes: list[int] = []
    network.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    return sizes


def test_images_become_floats_and_repeat_once_per_mask_of_the_same_photo() -> None:
    image = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    image[1] = 255
    mask = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    mask[0, 2], mask[1, 0] = 1, 1
    made = to_inputs(Batch(("a", "b"), (0, 1), image, mask), seed=0)
    images, masks = made.image, made.mask
    assert images.shape == (6, 3, 4, 4)
    assert masks.shape == (6, 1, 4, 4)
    assert images.amax(dim=(1, 2, 3)).tolist() == images.amin(dim=(1, 2, 3)).tolist() == [0, 0, 0, 1, 1, 1]
    assert masks.mean(dim=(1, 2, 3)).tolist() == [0, 0, 1, 1, 0, 0]


def test_the_generator_runs_once_per_step_in_both_stages(dataset: Dataset) -> None:
    trained = fresh()
    runs = count_runs(trained.state.objective.networks["generator"])
    trained.run(stream_of(dataset), 32)
    assert runs == [4 * 3] * 8  # four photos with three masks each, eight steps


def test_images_seen_is_steps_times_batch_in_photos(dataset: Dataset) -> None:
    stream, trained = stream_of(dataset), fresh()
    runs = count_runs(trained.state.objective.networks["generator"])
    trained.run(stream, 20)
    assert trained.state.images_seen == 20 == len(runs) * trained.recipe.batch_size
    assert stream.positions == list(range(20))


def test_the_stage_changes_on_the_clock(dataset: Dataset) -> None:
    trained = fresh()
    untouched = trained.weights("critic")
    trained.run(stream_of(dataset), 16)
    assert all("gradient_norm_reconstruct" in p.values and "critic" not in p.values for p in trained.points)
    assert all(torch.equal(tensor, untouched[key]) for key, tensor in trained.weights("critic").items())
    trained.run(stream_of(dataset), 24)
    assert [p.images_seen for p in trained.points] == [4, 8, 12, 16, 20, 24]
    assert all("gradient_norm_criticise" in p.values and "gradient_norm_reconstruct" not in p.values
               for p in trained.points[4:])  # fmt: skip
    assert any(not torch.equal(tensor, untouched[key]) for key, tensor in trained.weights("critic").items())


def test_a_phase_runs_in_every_nth_step_only(dataset: Dataset) -> None:
    trained = fresh(objective=objective(warm_up_images=4))
    warm_up, (generate, criticise) = (s.phases for s in trained.state.objective.stages)
    stages = trained.state.objective.stages
    rare = (stages[0], replace(stages[1], phases=(generate, replace(criticise, every=3))))
    trained.state.objective = replace(trained.state.objective, stages=rare)
    assert warm_up[0].every == 1
    trained.run(stream_of(dataset), 32)
    assert [p.images_seen for p in trained.points if "critic" in p.values] == [16, 28]  # after steps 3 and 6


def test_the_learning_rate_falls_linearly_to_zero_after_the_constant_part() -> None:
    recipe = train_recipe(images=32, constant_images=16)
    assert [recipe.compute_learning_rate_factor(n) for n in (0, 16, 20, 24, 28, 32, 40)] == [
        1,
        1,
        0.75,
        0.5,
        0.25,
        0,
        0,
    ]


def test_an_update_is_made_with_the_learning_rate_of_its_clock(dataset: Dataset) -> None:
    rates = {"generator": AdamConfig(1e-3), "critic": AdamConfig(4e-3)}
    trained = fresh(optimizers=rates).run(stream_of(dataset), 28)
    groups = {name: o.param_groups[0]["lr"] for name, o in trained.state.optimizers.items()}
    assert groups == {"generator": 0.5e-3, "critic": 2e-3}  # the last step began at 24


def clip(norm: float | None) -> Trained:
    """A fresh training whose generator's gradients are clipped."""
    optimizers = train_recipe().optimizers
    return fresh(optimizers=optimizers | {"generator": replace(optimizers["generator"], clip_norm=norm)})


@pytest.mark.parametrize("clip_norm", [1e-3, 0.5])
def test_gradients_are_clipped_to_the_norm_of_the_network(dataset: Dataset, clip_norm: float) -> None:
    trained = clip(clip_norm).run(stream_of(dataset), 4)
    assert trained.points[0].values["gradient_norm_reconstruct"] > clip_norm
    assert trained.gradient_norm("generator") == pytest.approx(clip_norm, rel=2e-3)


def test_gradients_below_the_norm_or_without_one_stay_as_they_are(dataset: Dataset) -> None:
    whole, wide = (clip(norm).run(stream_of(dataset), 4) for norm in (None, 1e9))
    norm = whole.points[0].values["gradient_norm_reconstruct"]
    assert whole.gradient_norm("generator") == pytest.approx(norm, rel=1e-5)
    assert wide.gradient_norm("generator") == pytest.approx(norm, rel=1e-5)


def test_points_are_means_over_the_photos_since_the_point_before(dataset: Dataset) -> None:
    often = fresh(metric_images=4).run(stream_of(dataset), 16).points
    seldom = fresh(metric_images=8).run(stream_of(dataset), 16).points
    assert [p.images_seen for p in seldom] == [8, 16]
    for whole, first, second in zip(seldom, often[::2], often[1::2], strict=True):
        for name in ("l1_out", "l1_coarse", "gradient_norm_reconstruct"):
            assert whole.values[name] == pytest.approx((first.values[name] + second.values[name]) / 2, rel=1e-5)


def test_a_term_of_a_rare_phase_is_averaged_over_its_own_runs() -> None:
    meter = Meter(World(), 0)
    for step in range(4):
        meter.add({"always": torch.tensor(float(step))} | ({"rare": torch.tensor(5.0)} if step == 2 else {}))
    values = meter.make_point(16).values
    assert (values["always"], values["rare"]) == (1.5, 5.0)


def test_commits_come_at_the_checkpoints_and_at_the_end_and_hold_each_point_once(dataset: Dataset) -> None:
    trained = fresh().run(stream_of(dataset), 20)
    assert [[p.images_seen for p in points] for points in trained.committed] == [[4, 8], [12, 16], [20]]


def test_nothing_is_done_at_the_end_already(dataset: Dataset) -> None:
    trained = fresh().run(stream_of(dataset), 8)
    before = trained.weights("generator")
    trained.run(stream_of(dataset), 8)
    assert len(trained.committed) == 1
    assert all(torch.equal(tensor, before[key]) for key, tensor in trained.weights("generator").items())


def test_an_infinite_gradient_is_named_by_parameter_phase_and_clock_before_a_step(dataset: Dataset) -> None:
    trained = fresh(objective=objective(adversarial_weight=float("inf"))).run(stream_of(dataset), 16)
    before = trained.weights("generator")
    with pytest.raises(
        NonFiniteError,
        match=r"of generator\.\S+ and of \d+ more on rank 0, in phase 'generate' at 16 images.*smaller learning",
    ):
        trained.run(stream_of(dataset), 32)
    assert trained.state.images_seen == 16
    assert all(torch.equal(tensor, before[key]) for key, tensor in trained.weights("generator").items())


def test_a_training_that_explodes_names_the_terms(dataset: Dataset) -> None:
    rates = {"generator": AdamConfig(1e20), "critic": AdamConfig(1e-3)}
    with pytest.raises(NonFiniteError, match=r"not finite: .*l1_out on rank 0, in phase 'reconstruct' at 4 images"):
        fresh(optimizers=rates).run(stream_of(dataset), 32)


@dataclass(frozen=True)
class ThreadWorld(World):
    """Ranks that are threads of this process."""

    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))
    brought: dict[int, list[Tensor]] = field(default_factory=dict)

    def average(self, tensors: Sequence[Tensor]) -> Tensor:
        self.brought[self.rank] = [tensor.clone() for tensor in tensors]
        self.meeting.wait(60)
        rows = zip(*(self.brought[rank] for rank in range(self.size)), strict=True)
        means = [torch.stack(row).mean(dim=0) for row in rows]
        self.meeting.wait(60)
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean)
        own = (all(bool(torch.isfinite(value).all()) for value in self.brought[rank]) for rank in range(self.size))
        return ~torch.tensor(list(own))


def train_ranks(dataset: Dataset, ranks: Sequence[Trained], until_images: int) -> dict[int, Exception]:
    """Trains the ranks together; what went wrong on each of them."""
    meeting, brought, faults = threading.Barrier(len(ranks)), dict[int, list[Tensor]](), dict[int, Exception]()

    def run(number: int) -> None:
        try:
            ranks[number].run(
                stream_of(dataset), until_images, ThreadWorld(number, len(ranks), meeting=meeting, brought=brought)
            )
        except Exception as fault:  # noqa: BLE001 - the test looks at all of them
            faults[number] = fault

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(ranks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return faults


def test_two_ranks_hold_equal_weights_and_learn_what_one_learns(dataset: Dataset) -> None:
    first, second, alone = fresh(), fresh(), fresh().run(stream_of(dataset), 24)
    assert train_ranks(dataset, (first, second), 24) == {}
    for name in ("generator", "critic"):
        assert all(torch.equal(tensor, second.weights(name)[key]) for key, tensor in first.weights(name).items())
    for together, single in zip(first.points[:2], alone.points[:2], strict=True):
        for name in ("l1_coarse", "l1_low", "l1_out", "gradient_norm_reconstruct"):
            assert together.values[name] == pytest.approx(single.values[name], rel=1e-3), name
    assert [p.images_seen for p in first.points] == [p.images_seen for p in alone.points]


def test_the_error_names_the_rank_and_the_term_at_fault(dataset: Dataset) -> None:
    explosive = fresh(optimizers={"generator": AdamConfig(1e20), "critic": AdamConfig(1e-3)})
    faults = train_ranks(dataset, (fresh(), explosive), 32)
    message = "not finite: l1_coarse on rank 1, l1_low on rank 1, l1_out on rank 1, in phase 'reconstruct' at 4 images;"
    assert [str(faults[rank]).startswith(message) for rank in (0, 1)] == [True, True]


def test_a_step_in_parts_is_the_step_to_rounding(dataset: Dataset) -> None:
    whole, parts = (fresh(grad_accumulation=n).run(stream_of(dataset), 16) for n in (1, 2))
    for one, other in zip(whole.points, parts.points, strict=True):
        for name in ("l1_coarse", "l1_low", "l1_out", "gradient_norm_reconstruct"):
            assert one.values[name] == pytest.approx(other.values[name], rel=1e-3), name


def test_in_parts_the_networks_run_for_each_phase_and_part(dataset: Dataset) -> None:
    trained, runs = fresh(grad_accumulation=2), []
    trained.state.generator.register_forward_hook(lambda *_: runs.append(1))
    trained.run(stream_of(dataset), 20)
    assert len(runs) == 4 * 2 + 1 * 2 * 2  # four steps of the warm-up with one phase, one of the other stage with two
