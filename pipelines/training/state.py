"""The state of a training: networks, optimizers and clock, and its way into a checkpoint and out of it again."""

from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn

from nets import build_objective
from nets.objective import Objective, Weights
from pipelines.checkpoints import AVERAGE, Checkpoint, save_checkpoint
from pipelines.keyed_rng import derive_seed
from pipelines.records import UsageError
from pipelines.training.state import Ledger
from pipelines.training.precision import LossScale
from pipelines.training.recipe import TrainRecipe

NO_WEIGHTS: Final[Weights] = MappingProxyType({})


def refuse_other_networks(recipe: TrainRecipe, objective: Objective) -> None:
    """Raises UsageError where the recipe's optimizers are not those of the objective's networks."""
    if set(recipe.optimizers) != set(objective.networks):
        raise UsageError(
            f"recipe {recipe.name}: optimizers of {', '.join(recipe.optimizers)} for the networks "
            f"{', '.join(objective.networks)}: give each its own"
        )


@dataclass(frozen=True)
class Snapshot:
    """A copy of a state in ordinary memory, which the steps after it do not change."""

    files: dict[str, dict[str, Tensor]]
    facts: dict[str, Any]

    @property
    def images_seen(self) -> int:
        """The clock at which it was taken."""
        return int(self.facts["images_seen"])

    def save(self, out: str, keep: Collection[int] = ()) -> Checkpoint:
        """Publishes it as a checkpoint under the run `out`; those of the clocks `keep` stay though older than two."""
        return save_checkpoint(out, self.files, self.facts, keep)


class TrainState:
    """Everything that a step changes. Fresh weights depend on the recipe's seed alone, not on rank, world or device."""

    def __init__(self, recipe: TrainRecipe, weights: Weights = NO_WEIGHTS, device: torch.device | str = "cpu") -> None:
        """`weights`: of the teachers that the recipe's objective asks for."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(recipe.seed, "weights"))
            self.objective = build_objective(recipe.objective, weights)
        refuse_other_networks(recipe, self.objective)
        for network in (*self.objective.networks.values(), *self.objective.teachers.values()):
            network.to(device)
        self.scale = LossScale.of(recipe.precision)
        self._average_images = recipe.average_images
        self.average = None if recipe.average_images is None else deepcopy(self.generator).requires_grad_(False)
        if recipe.compiled:
            self.generator.compile()
        self.optimizers = {
            name: torch.optim.Adam(
                self.objective.networks[name].parameters(),
                lr=o.learning_rate,
                betas=o.betas,
                weight_decay=o.weight_decay,
                fused=True,
            )
            for name, o in recipe.optimizers.items()
        }
        self.images_seen = 0
        self.ledger = Ledger()
        """Of the photos that this process has seen; what was seen before it began is in that of rank 0."""

    @property
    def generator(self) -> nn.Module:
        """The network that is trained."""
        return self.objective.networks["generator"]

    @property
    def eval_generator(self) -> nn.Module:
        """The generator that is watched and registered."""
        return self.generator if self.average is None else self.average

    @torch.no_grad()
    def advance(self, num_photos: int) -> None:
        """After a step of so many photos: moves the clock, and the averages a little way to the new weights.

        An exponential average; of the first photos, plain means (Polyak and Juditsky, 1992).
        """
        self.images_seen += num_photos
        if self.average is None or self._average_images is None:
            return
        share = num_photos / min(self.images_seen, max(num_photos, self._average_images))
        for mean, newest in zip(self.average.state_dict().values(), self.generator.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(newest, share)
            else:
                mean.copy_(newest)

    def snapshot(self, facts: Mapping[str, Any]) -> Snapshot:
        """A copy of all that a checkpoint holds; `facts` go into its state.json beside the state's own."""
        networks = {name: network.state_dict() for name, network in self.objective.networks.items()}
        moments = {f"adam.{name}": _moments(o, self.objective.networks[name]) for name, o in self.optimizers.items()}
        average = {} if self.average is None else {AVERAGE: self.average.state_dict()}
        files = {
            name: {key: _copied(x) for key, x in of.items()} for name, of in (networks | moments | average).items()
        }
        return Snapshot(files, {**facts, "images_seen": self.images_seen, "loss_scale": asdict(self.scale)})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes the state of a checkpoint; raises UsageError where its tensors are not those of these networks."""
        for name, network in self.objective.networks.items():
            try:
                network.load_state_dict(checkpoint.tensors(name))
            except RuntimeError as fault:
                raise UsageError(f"{checkpoint.uri} does not fit the recipe's {name}: {fault}") from None
        for name, optimizer in self.optimizers.items():
            _restore_moments(optimizer, self.objective.networks[name], checkpoint.tensors(f"adam.{name}"))
        if self.average is not None:
            self.average.load_state_dict(checkpoint.tensors(AVERAGE))
        self.scale = LossScale(**checkpoint.state["loss_scale"])
        self.images_seen = checkpoint.images_seen


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _moments(optimizer: torch.optim.Adam, network: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{field}": tensor
        for name, parameter in network.named_parameters()
        for field, tensor in optimizer.state.get(parameter, {}).items()
    }


def _restore_moments(optimizer: torch.optim.Adam, network: nn.Module, saved: dict[str, Tensor]) -> None:
    for name, parameter in network.named_parameters():
        if f"{name}.step" in saved:
            optimizer.state[parameter] = {
                "step": saved[f"{name}.step"].to(parameter.device),
                "exp_avg": torch.empty_like(parameter).copy_(saved[f"{name}.exp_avg"]),
                "exp_avg_sq": torch.empty_like(parameter).copy_(saved[f"{name}.exp_avg_sq"]),
            }
