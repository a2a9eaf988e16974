"""The state of a training: networks, optimizers, clock and ledger, and its way into a checkpoint and out of it again.

The ledger is a digest of the photos that a training has seen, each at its place in the sequence, which is the same for
any number of ranks and goes into every checkpoint. Two trainings on the same datasets with equal digests at a clock
have seen photos of the same keys in the same order, whatever died, was resumed or changed its number of workers.
"""

from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn

from infra.world import World
from nets import build_objective
from nets.objective import Objective, Weights
from pipelines.checkpoints import AVERAGE, Checkpoint, save_checkpoint
from pipelines.keyed_rng import derive_seed
from pipelines.records import UsageError
from pipelines.training.precision import LossScale
from pipelines.training.recipe import TrainRecipe

NO_WEIGHTS: Final[Weights] = MappingProxyType({})
_DIGEST_BYTES: Final = 6
_HALF_BITS: Final = 24
"""Halves of a digest are summed over ranks as float64, exactly for up to 2^29 of them."""


@dataclass
class Ledger:
    """A sum, modulo 2^48, of a digest of each sample that this process has seen."""

    digest: int = 0

    def add(self, keys: Iterable[str], positions: Iterable[int]) -> None:
        """Add photos by their keys and their global positions."""
        for key, position in zip(keys, positions, strict=True):
            entry = blake2b(f"{position} {key}".encode(), digest_size=_DIGEST_BYTES).digest()
            self.digest += int.from_bytes(entry, "big")
        self.digest %= 1 << 8 * _DIGEST_BYTES

    def sum_over(self, world: World) -> int:
        """Sum of all ranks' digests; every rank must call it."""
        halves = torch.tensor([self.digest >> _HALF_BITS, self.digest % (1 << _HALF_BITS)], dtype=torch.float64)
        world.average([halves])
        high, low = (round(float(half) * world.size) for half in halves)
        return ((high << _HALF_BITS) + low) % (1 << 8 * _DIGEST_BYTES)


def refuse_other_networks(recipe: TrainRecipe, objective: Objective) -> None:
    """Raise UsageError where the recipe's optimizers are not those of the objective's networks."""
    if set(recipe.optimizers) != set(objective.networks):
        raise UsageError(
            f"recipe {recipe.name}: optimizers are for {', '.join(recipe.optimizers)}: give one to each of the "
            f"networks {', '.join(objective.networks)}"
        )


@dataclass(frozen=True)
class Snapshot:
    """A copy of a state in ordinary memory, which the steps after it do not change."""

    files: dict[str, dict[str, Tensor]]
    facts: dict[str, Any]

    @property
    def images_seen(self) -> int:
        """Clock of the state that was copied."""
        return int(self.facts["images_seen"])

    def save(self, out: str, keep: Collection[int] = ()) -> Checkpoint:
        """Publish it as a checkpoint under the run `out`; older ones of the clocks `keep` stay."""
        return save_checkpoint(out, self.files, self.facts, keep)


class TrainState:
    """All that a step changes. Fresh weights depend on the recipe's seed alone, not on rank, world or device."""

    def __init__(self, recipe: TrainRecipe, weights: Weights = NO_WEIGHTS, device: torch.device | str = "cpu") -> None:
        """Build networks and optimizers; `weights` are those of the teachers that the objective needs."""
        # Build the networks.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(recipe.seed, "weights"))
            self.objective = build_objective(recipe.objective, weights)
        refuse_other_networks(recipe, self.objective)
        for network in (*self.objective.networks.values(), *self.objective.teachers.values()):
            network.to(device)
        self.scale = LossScale.for_precision(recipe.precision)
        self._average_images = recipe.average_images
        self.average = None if recipe.average_images is None else deepcopy(self.generator).requires_grad_(False)
        if recipe.compiled:
            self.generator.compile()
        # Build an optimizer for each.
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
        """Digest of the photos that this process has seen; rank 0 adds those seen before the start."""

    @property
    def generator(self) -> nn.Module:
        """Network that is trained."""
        return self.objective.networks["generator"]

    @property
    def eval_generator(self) -> nn.Module:
        """Generator that is validated and registered."""
        return self.generator if self.average is None else self.average

    @torch.no_grad()
    def advance(self, num_photos: int) -> None:
        """Advance the clock by a step of so many photos, and move the averages toward the new weights.

        An exponential average; plain means during the first photos (Polyak and Juditsky, 1992).
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
        """Copy of all that a checkpoint holds; `facts` go into its state.json beside the state's own."""
        networks = {name: network.state_dict() for name, network in self.objective.networks.items()}
        moments = {
            f"adam.{name}": _collect_moments(o, self.objective.networks[name]) for name, o in self.optimizers.items()
        }
        average = {} if self.average is None else {AVERAGE: self.average.state_dict()}
        files = {
            name: {
                key: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
                for key, tensor in tensors.items()
            }
            for name, tensors in (networks | moments | average).items()
        }
        return Snapshot(files, {**facts, "images_seen": self.images_seen, "loss_scale": asdict(self.scale)})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the state of a checkpoint; raises UsageError where its tensors do not fit these networks."""
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


def _collect_moments(optimizer: torch.optim.Adam, network: nn.Module) -> dict[str, Tensor]:
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
