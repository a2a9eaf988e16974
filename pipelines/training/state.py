"""The state of a training: networks, optimisers and clock, and its way into a checkpoint and out of it again."""

from typing import Any

import torch
from torch import Tensor, nn

from infra.weights import load_weights
from nets import build_objective
from nets.objective import Objective
from pipelines.chance import seed_of
from pipelines.checkpoints import Checkpoint, save_checkpoint
from pipelines.records import Refused
from pipelines.training.recipe import TrainRecipe


def refuse_other_networks(recipe: TrainRecipe, objective: Objective) -> None:
    """Raises Refused where the recipe's optimisers are not those of the objective's networks."""
    if set(recipe.optimisers) != set(objective.networks):
        raise Refused(
            f"recipe {recipe.name}: optimisers of {', '.join(recipe.optimisers)} for the networks "
            f"{', '.join(objective.networks)}: give each its own"
        )


class TrainState:
    """Everything that a step changes. Fresh weights depend on the recipe's seed alone, not on rank or world.

    `teachers_at` is the folder with the weights of teachers, that of this process's environment if not given.
    """

    def __init__(self, recipe: TrainRecipe, teachers_at: str | None = None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(recipe.seed, "weights"))
            teachers = load_weights(recipe.objective.needs_weights, teachers_at)
            self.objective = build_objective(recipe.objective, teachers)
        refuse_other_networks(recipe, self.objective)
        self.optimisers = {
            name: torch.optim.Adam(
                self.objective.networks[name].parameters(),
                lr=o.learning_rate,
                betas=o.betas,
                weight_decay=o.weight_decay,
                fused=True,
            )
            for name, o in recipe.optimisers.items()
        }
        self.images_seen = 0

    def save(self, out: str, facts: dict[str, Any]) -> Checkpoint:
        """Publishes a checkpoint of this state under the run `out`; `facts` go into its state.json."""
        networks = {name: dict(network.state_dict()) for name, network in self.objective.networks.items()}
        moments = {f"adam.{name}": _moments(o, self.objective.networks[name]) for name, o in self.optimisers.items()}
        return save_checkpoint(out, networks | moments, {**facts, "images_seen": self.images_seen})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes the state of a checkpoint; raises Refused where its tensors are not those of these networks."""
        for name, network in self.objective.networks.items():
            try:
                network.load_state_dict(checkpoint.tensors(name))
            except RuntimeError as fault:
                raise Refused(f"{checkpoint.uri} does not fit the recipe's {name}: {fault}") from None
        for name, optimiser in self.optimisers.items():
            _restore_moments(optimiser, self.objective.networks[name], checkpoint.tensors(f"adam.{name}"))
        self.images_seen = checkpoint.images_seen


def _moments(optimiser: torch.optim.Adam, network: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{field}": tensor
        for name, parameter in network.named_parameters()
        for field, tensor in optimiser.state.get(parameter, {}).items()
    }


def _restore_moments(optimiser: torch.optim.Adam, network: nn.Module, saved: dict[str, Tensor]) -> None:
    for name, parameter in network.named_parameters():
        if f"{name}.step" in saved:
            optimiser.state[parameter] = {
                "step": saved[f"{name}.step"],
                "exp_avg": torch.empty_like(parameter).copy_(saved[f"{name}.exp_avg"]),
                "exp_avg_sq": torch.empty_like(parameter).copy_(saved[f"{name}.exp_avg_sq"]),
            }
