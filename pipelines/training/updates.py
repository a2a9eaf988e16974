"""Optimizer updates: from the outputs of a step to changed weights, for ordinary and for bilevel phases.

The only file that asks for gradients. They are averaged over ranks before they are used in a norm or a step, so any
number of ranks makes the same updates.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from infra.world import World
from nets.objective import BilevelPhase, Forward, Inputs, Outputs, Phase, Stage, Terms
from pipelines.records import JobError
from pipelines.training.precision import autocast, exact_products, to_float32
from pipelines.training.recipe import AdamConfig, TrainRecipe
from pipelines.training.state import TrainState

Gradients = list[Tensor | None]
"""None for parameters on which the loss does not depend."""


class NonFiniteError(JobError):
    """A loss term or a gradient is not finite: names rank, clock, phase and term or parameter, alike on every rank."""


@dataclass(frozen=True)
class Updater:
    """Makes the updates of one training on this rank."""

    recipe: TrainRecipe
    state: TrainState
    world: World

    def forward(self, forward: Forward, inputs: Inputs) -> Outputs:
        """Outputs of the networks for a step's samples, computed in the recipe's precision."""
        with autocast(self.recipe.precision, self.world.device):
            return to_float32(forward(inputs))

    def step(self, stage: Stage, parts: Sequence[Inputs]) -> Iterator[Terms]:
        """Make one step on these samples; yields the terms of each phase whose turn it is.

        The networks run once. Where the samples come in equal parts, they run for each phase and part, so that memory
        holds the features of one part at a time; gradients are means over the parts.
        """
        whole = [self.forward(stage.forward, parts[0])] if len(parts) == 1 else None
        number = self.state.images_seen // self.recipe.batch_size
        for phase in (p for p in stage.phases if number % p.every == 0):
            if isinstance(phase, BilevelPhase):
                (inputs,) = parts
                yield self.update_bilevel(phase, stage.forward, inputs)
            else:
                outputs = whole or (self.forward(stage.forward, part) for part in parts)
                yield self._update(phase, outputs, len(parts))

    def update(self, phase: Phase, outputs: Outputs) -> Terms:
        """Update the phase's networks from the step's outputs; returns its terms, detached.

        Where the gradients of float16 overflow, the update is skipped and their factor halved.
        """
        return self._update(phase, [outputs], 1)

    def _update(self, phase: Phase, parts: Iterable[Outputs], count: int) -> Terms:
        """Update from the outputs of `count` parts of the step, one after the other."""
        # Accumulate gradients over the parts.
        scale, parameters = self.state.scale, self._list_parameters(phase.trains)
        gradients: Gradients = [None] * len(parameters)
        terms_of_parts, totals = list[Terms](), list[Tensor]()
        for outputs in parts:
            with autocast(self.recipe.precision, self.world.device):
                terms = to_float32(phase.terms(outputs))
            total = sum_weighted(terms, phase.weights) * (scale.factor / count)
            _accumulate(gradients, torch.autograd.grad(total, parameters, allow_unused=True))
            totals.append(total.detach())
            terms_of_parts.append({name: term.detach() for name, term in terms.items()})
        # Average gradients over ranks.
        loss = torch.stack(totals).sum()
        bad_ranks = self._average([*gradients, loss], scale.factor)
        terms = {name: torch.stack([part[name] for part in terms_of_parts]).mean() for name in terms_of_parts[0]}
        # Step, or reduce the scale after an overflow.
        if scale.moves and not bool(torch.isfinite(_measure_norm(gradients) + loss)) and scale.reduce():
            return _detach_terms(phase, terms)
        scale.count_update()
        return self._step(phase, terms, gradients, loss, bad_ranks)

    @exact_products()
    def update_bilevel(self, phase: BilevelPhase, forward: Forward, inputs: Inputs) -> Terms:
        """Update the phase's networks by the gradient through a step of its inner phase; returns its terms, detached.

        The networks of the inner phase are unchanged afterwards, bit for bit. Algorithm 1 of distillation-guided
        inpainting, the second derivative by central differences (DARTS, Eq. 8): four runs and four gradients, in
        float32 whatever the recipe's precision, as differences of half-width numbers would be all rounding.
        """
        inner, outer = self._list_parameters(phase.inner.trains), self._list_parameters(phase.trains)
        # Compute the inner step, and the outer gradient after it.
        outputs = forward(inputs)
        held = {name: outputs[name].detach() for name in phase.held}
        step = self._compute_inner_gradients(phase, outputs, phase.inner)
        with shift_parameters(inner, step, -phase.alpha):
            terms = phase.terms(forward(inputs))
            total = sum_weighted(terms, phase.weights)
            gradients, loss, bad_ranks = self._compute_gradients(total, outer + inner)
            direct, towards = gradients[: len(outer)], gradients[len(outer) :]
        # Differentiate through the inner step by central differences.
        length = float(_measure_norm(towards))
        if not math.isfinite(length):
            raise NonFiniteError(self._diagnose(phase, terms, self._name_non_finite(phase.inner, towards, bad_ranks)))
        arm = phase.epsilon / max(length, torch.finfo(torch.float32).tiny)
        with shift_parameters(inner, towards, arm):
            ahead = self._compute_inner_gradients(phase, forward(inputs) | held, phase)
        with shift_parameters(inner, towards, -arm):
            behind = self._compute_inner_gradients(phase, forward(inputs) | held, phase)
        scale = phase.alpha / (2 * arm)
        parts = zip(direct, ahead, behind, strict=True)
        return self._step(phase, terms, [_compute_hypergradient(*part, scale) for part in parts], loss, bad_ranks)

    def _compute_inner_gradients(
        self, phase: BilevelPhase, outputs: Outputs, trained: Phase | BilevelPhase
    ) -> Gradients:
        """Gradients of the inner phase's loss for the networks of `trained`; raises NonFiniteError."""
        terms = phase.inner.terms(outputs)
        total = sum_weighted(terms, phase.inner.weights)
        gradients, loss, bad_ranks = self._compute_gradients(total, self._list_parameters(trained.trains))
        if not bool(torch.isfinite(_measure_norm(gradients) + loss)):
            raise NonFiniteError(
                self._diagnose(phase.inner, terms, self._name_non_finite(trained, gradients, bad_ranks))
            )
        return gradients

    def _list_parameters(self, names: Sequence[str]) -> list[nn.Parameter]:
        return [p for name in names for p in self.state.objective.networks[name].parameters()]

    def _compute_gradients(self, total: Tensor, parameters: list[nn.Parameter]) -> tuple[Gradients, Tensor, Tensor]:
        """Gradients of a scalar, and the scalar, averaged over ranks; and which ranks had non-finite values."""
        gradients: Gradients = list(torch.autograd.grad(total, parameters, allow_unused=True))
        loss = total.detach().clone()
        return gradients, loss, self._average([*gradients, loss])

    def _average(self, gradients: Gradients, factor: float = 1.0) -> Tensor:
        """Average over ranks, in place and without the factor in them; returns which ranks had non-finite values."""
        there = [g for g in gradients if g is not None]
        if factor != 1.0:
            torch._foreach_div_(there, factor)
        if self.world.size > 1 and self.world.device.type == "cuda":
            torch.cuda.synchronize(self.world.device)  # a rank in there waits for other ranks alone
        return self.world.average(there)

    def _step(
        self, phase: Phase | BilevelPhase, terms: Terms, gradients: Gradients, loss: Tensor, bad_ranks: Tensor
    ) -> Terms:
        """Step each network; raises NonFiniteError before anything is changed.

        `loss` is that of the phase over all ranks: it may be not finite where its gradient is.
        """
        norm = _measure_norm(gradients)
        if not bool(torch.isfinite(norm + loss)):
            raise NonFiniteError(self._diagnose(phase, terms, self._name_non_finite(phase, gradients, bad_ranks)))
        remaining, rates = iter(gradients), {}
        for name in phase.trains:
            parameters = self._list_parameters((name,))
            rate = self._step_network(name, parameters, [next(remaining) for _ in parameters])
            rates[f"learning_rate_{name}"] = torch.tensor(rate)
        return _detach_terms(phase, terms) | {f"gradient_norm_{phase.name}": norm} | rates

    def _step_network(self, name: str, parameters: list[nn.Parameter], gradients: Gradients) -> float:
        """Clip, and step at the learning rate of the clock, which it returns."""
        optimizer, config = self.state.optimizers[name], self.recipe.optimizers[name]
        scale = _compute_scale(config, float(_measure_norm(gradients)))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else _match_layout(parameter, gradient).mul_(scale)
        rate = config.learning_rate * self.recipe.compute_learning_rate_factor(self.state.images_seen)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        return rate

    def _name_non_finite(self, phase: Phase | BilevelPhase, gradients: Gradients, bad_ranks: Tensor) -> str:
        """First parameter whose averaged gradient is not finite, how many more there are, and on which ranks."""
        networks = self.state.objective.networks
        names = [f"{name}.{key}" for name in phase.trains for key, _ in networks[name].named_parameters()]
        there = [(name, gradient) for name, gradient in zip(names, gradients, strict=True) if gradient is not None]
        bad = [name for name, gradient in there if not bool(torch.isfinite(gradient).all())] or ["all together"]
        ranks = " and ".join(str(rank) for (rank,) in bad_ranks.nonzero().tolist())
        alone = "rank 0" if self.world.size == 1 else "no rank alone, their sum"
        more = f" and of {len(bad) - 1} more" if bad[1:] else ""
        return f"the gradient of {bad[0]}{more} on {f'rank {ranks}' if ranks else alone}"

    def _diagnose(self, phase: Phase | BilevelPhase, terms: Terms, gradient: str) -> str:
        """Message about the terms of all ranks: only some have the fault, and Ray shows the message of one rank."""
        faults = torch.zeros(self.world.size, len(terms), dtype=torch.float64)
        faults[self.world.rank] = torch.tensor([not bool(torch.isfinite(term)) for term in terms.values()])
        self.world.average([faults])
        names = list(terms)
        bad = [f"{names[term]} on rank {rank}" for rank, term in faults.nonzero().tolist()] or [gradient]
        return (
            f"not finite: {', '.join(bad)}, in phase {phase.name!r} at {self.state.images_seen} images; this update "
            "was not made: start again from the last checkpoint with a smaller learning rate or a longer warm-up"
        )


def _detach_terms(phase: Phase | BilevelPhase, terms: Terms) -> Terms:
    """Terms for the curves, with their total; a bilevel phase's have a prefix, as another phase has the same."""
    prefix = f"{phase.name}_" if isinstance(phase, BilevelPhase) else ""
    detached = {f"{prefix}{name}": term.detach() for name, term in terms.items()}
    return detached | {f"total_{phase.name}": sum_weighted(terms, phase.weights).detach()}


def sum_weighted(terms: Terms, weights: Mapping[str, float]) -> Tensor:
    """Loss of a phase: the sum of its terms by their weights."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


@contextmanager
def shift_parameters(parameters: list[nn.Parameter], direction: Gradients, length: float) -> Iterator[None]:
    """Shift the parameters to p + length * direction for the time of a block; then restore them bit for bit."""
    before = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for parameter, part in zip(parameters, direction, strict=True):
            if part is not None:
                parameter.add_(part, alpha=length)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)


def _accumulate(gradients: Gradients, more: Sequence[Tensor | None]) -> None:
    """Add `more` to the gradients in place, each to its own."""
    for number, (sum_, part) in enumerate(zip(gradients, more, strict=True)):
        gradients[number] = part if sum_ is None else sum_ if part is None else sum_.add_(part)


def _match_layout(parameter: Tensor, gradient: Tensor) -> Tensor:
    """Gradient with the strides of its parameter, as fused optimizers on GPUs need it."""
    alike = gradient.stride() == parameter.stride()
    return gradient if alike else torch.empty_like(parameter).copy_(gradient)


def _compute_scale(config: AdamConfig, norm: float) -> float:
    """Factor by which gradients of this norm are multiplied before a step."""
    if config.unit_norm:
        return 1 / max(norm, torch.finfo(torch.float32).tiny)
    return 1.0 if config.clip_norm is None else min(1.0, config.clip_norm / (norm + 1e-6))


def _measure_norm(gradients: Gradients) -> Tensor:
    return torch.nn.utils.get_total_norm([g for g in gradients if g is not None])


def _compute_hypergradient(
    direct: Tensor | None, ahead: Tensor | None, behind: Tensor | None, scale: float
) -> Tensor | None:
    """Gradient of the outer loss for one parameter: the direct one, and the one through the inner step."""
    if ahead is None or behind is None:
        return direct
    through = (behind - ahead) * scale
    return through if direct is None else direct + through
