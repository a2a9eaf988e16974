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
from pipelines.training.precision import as_float32, computing, exact_products
from pipelines.training.recipe import AdamConfig, TrainRecipe
from pipelines.training.state import TrainState

Gradients = list[Tensor | None]
"""None for parameters on which nothing depends."""


class NonFiniteError(JobError):
    """A loss term or a gradient that is no finite number: names rank, clock, phase and term or parameter, on every rank
    the same."""


@dataclass(frozen=True)
class Updater:
    """Makes the updates of one training on this rank."""

    recipe: TrainRecipe
    state: TrainState
    world: World

    def forward(self, forward: Forward, inputs: Inputs) -> Outputs:
        """What the networks make of a step's samples, computed in the recipe's precision."""
        with computing(self.recipe.precision, self.world.device):
            return as_float32(forward(inputs))

    def step(self, stage: Stage, parts: Sequence[Inputs]) -> Iterator[Terms]:
        """One step on these samples, each phase whose turn it is; yields its terms.

        The networks run once. Where the samples come in equal parts, they run for each phase and part, so that no more
        than one part's features are there at a time; gradients are means over the parts.
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
        """One update of the phase's networks from the step's outputs; returns its terms, detached.

        Where the gradients of float16 overflow, the update is left out and their factor halved.
        """
        return self._update(phase, [outputs], 1)

    def _update(self, phase: Phase, parts: Iterable[Outputs], count: int) -> Terms:
        """The same from the outputs of so many parts of the step, one after the other."""
        scale, parameters = self.state.scale, self._parameters(phase.trains)
        gradients: Gradients = [None] * len(parameters)
        told, totals = list[Terms](), list[Tensor]()
        for outputs in parts:
            with computing(self.recipe.precision, self.world.device):
                terms = as_float32(phase.terms(outputs))
            total = weighted(terms, phase.weights) * (scale.factor / count)
            _add(gradients, torch.autograd.grad(total, parameters, allow_unused=True))
            totals.append(total.detach())
            told.append({name: term.detach() for name, term in terms.items()})
        aim = torch.stack(totals).sum()
        bad_ranks = self._average([*gradients, aim], scale.factor)
        terms = {name: torch.stack([part[name] for part in told]).mean() for name in told[0]}
        if scale.moves and not bool(torch.isfinite(_norm(gradients) + aim)) and scale.after_overflow():
            return _told(phase, terms)
        scale.after_update()
        return self._step(phase, terms, gradients, aim, bad_ranks)

    def update_bilevel(self, phase: BilevelPhase, forward: Forward, inputs: Inputs) -> Terms:
        """One update of the phase's networks by the gradient through a step of its inner phase; its terms, detached.

        The networks of the inner phase are as before afterwards, bit for bit. Algorithm 1 of distillation-guided
        inpainting, the second derivative by central differences (DARTS, Eq. 8): four runs and four gradients, in
        float32 whatever the recipe's precision, as differences of half-width numbers would be all rounding.
        """
        with exact_products():
            return self._update_bilevel(phase, forward, inputs)

    def _update_bilevel(self, phase: BilevelPhase, forward: Forward, inputs: Inputs) -> Terms:
        inner, outer = self._parameters(phase.inner.trains), self._parameters(phase.trains)
        outputs = forward(inputs)
        held = {name: outputs[name].detach() for name in phase.held}
        step = self._inner_gradients(phase, outputs, phase.inner)
        with moved(inner, step, -phase.alpha):
            terms = phase.terms(forward(inputs))
            total = weighted(terms, phase.weights)
            gradients, aim, bad_ranks = self._gradients(total, outer + inner)
            direct, towards = _split(gradients, len(outer))
        length = float(_norm(towards))
        if not math.isfinite(length):
            raise NonFiniteError(self._diagnosis(phase, terms, self._not_finite(phase.inner, towards, bad_ranks)))
        arm = phase.epsilon / max(length, torch.finfo(torch.float32).tiny)
        with moved(inner, towards, arm):
            ahead = self._inner_gradients(phase, forward(inputs) | held, phase)
        with moved(inner, towards, -arm):
            behind = self._inner_gradients(phase, forward(inputs) | held, phase)
        scale = phase.alpha / (2 * arm)
        parts = zip(direct, ahead, behind, strict=True)
        return self._step(phase, terms, [_hypergradient(*part, scale) for part in parts], aim, bad_ranks)

    def _inner_gradients(self, phase: BilevelPhase, outputs: Outputs, of: Phase | BilevelPhase) -> Gradients:
        """Of what the inner phase minimises, for the networks of `of`; raises NonFiniteError."""
        terms = phase.inner.terms(outputs)
        total = weighted(terms, phase.inner.weights)
        gradients, aim, bad_ranks = self._gradients(total, self._parameters(of.trains))
        if not bool(torch.isfinite(_norm(gradients) + aim)):
            raise NonFiniteError(self._diagnosis(phase.inner, terms, self._not_finite(of, gradients, bad_ranks)))
        return gradients

    def _parameters(self, names: Sequence[str]) -> list[nn.Parameter]:
        return [p for name in names for p in self.state.objective.networks[name].parameters()]

    def _gradients(self, total: Tensor, parameters: list[nn.Parameter]) -> tuple[Gradients, Tensor, Tensor]:
        """Of this scalar, and it, averaged over ranks, and which ranks had some that are not finite."""
        gradients: Gradients = list(torch.autograd.grad(total, parameters, allow_unused=True))
        aim = total.detach().clone()
        return gradients, aim, self._average([*gradients, aim])

    def _average(self, gradients: Gradients, factor: float = 1.0) -> Tensor:
        """Makes them means over ranks, without the factor that is in them; which ranks had some that are not finite."""
        there = [g for g in gradients if g is not None]
        if factor != 1.0:
            torch._foreach_div_(there, factor)
        if self.world.size > 1 and self.world.device.type == "cuda":
            torch.cuda.synchronize(
                self.world.device
            )  # so that one who waits for others in there waits for nothing else
        return self.world.average(there)

    def _step(
        self, phase: Phase | BilevelPhase, terms: Terms, gradients: Gradients, aim: Tensor, bad_ranks: Tensor
    ) -> Terms:
        """Steps each network; raises NonFiniteError before anything is changed.

        `aim` is what the phase minimises, over all ranks: it may be no number where its gradient is one.
        """
        norm = _norm(gradients)
        if not bool(torch.isfinite(norm + aim)):
            raise NonFiniteError(self._diagnosis(phase, terms, self._not_finite(phase, gradients, bad_ranks)))
        remaining, rates = iter(gradients), {}
        for name in phase.trains:
            parameters = self._parameters((name,))
            rate = self._step_network(name, parameters, [next(remaining) for _ in parameters])
            rates[f"learning_rate_{name}"] = torch.tensor(rate)
        return _told(phase, terms) | {f"gradient_norm_{phase.name}": norm} | rates

    def _step_network(self, name: str, parameters: list[nn.Parameter], gradients: Gradients) -> float:
        """Clips, and steps at the learning rate of the clock, which it returns."""
        optimizer, config = self.state.optimizers[name], self.recipe.optimizers[name]
        scale = _scale(config, float(_norm(gradients)))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else _laid_out_as(parameter, gradient).mul_(scale)
        rate = config.learning_rate * self.recipe.learning_rate_factor(self.state.images_seen)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        return rate

    def _not_finite(self, phase: Phase | BilevelPhase, gradients: Gradients, bad_ranks: Tensor) -> str:
        """The first parameter whose averaged gradient is no number, how many more, and whose they were."""
        networks = self.state.objective.networks
        names = [f"{name}.{key}" for name in phase.trains for key, _ in networks[name].named_parameters()]
        there = [(name, gradient) for name, gradient in zip(names, gradients, strict=True) if gradient is not None]
        bad = [name for name, gradient in there if not bool(torch.isfinite(gradient).all())] or ["all together"]
        ranks = " and ".join(str(rank) for (rank,) in bad_ranks.nonzero().tolist())
        alone = "rank 0" if self.world.size == 1 else "no rank alone, their sum"
        more = f" and of {len(bad) - 1} more" if bad[1:] else ""
        return f"the gradient of {bad[0]}{more} on {f'rank {ranks}' if ranks else alone}"

    def _diagnosis(self, phase: Phase | BilevelPhase, terms: Terms, gradient: str) -> str:
        """Every rank looks at the terms of all: only some have the fault, and one of them alone is heard."""
        faults = torch.zeros(self.world.size, len(terms), dtype=torch.float64)
        faults[self.world.rank] = torch.tensor([not bool(torch.isfinite(term)) for term in terms.values()])
        self.world.average([faults])
        names = list(terms)
        bad = [f"{names[term]} on rank {rank}" for rank, term in faults.nonzero().tolist()] or [gradient]
        return (
            f"not finite: {', '.join(bad)}, in phase {phase.name!r} at {self.state.images_seen} images; this update "
            "was not made: start again from the last checkpoint with a smaller learning rate or a longer warm-up"
        )


def _told(phase: Phase | BilevelPhase, terms: Terms) -> Terms:
    prefix = f"{phase.name}_" if isinstance(phase, BilevelPhase) else ""  # its aim is another phase's, elsewhere
    told = {f"{prefix}{name}": term.detach() for name, term in terms.items()}
    return told | {f"total_{phase.name}": weighted(terms, phase.weights).detach()}


def weighted(terms: Terms, weights: Mapping[str, float]) -> Tensor:
    """What a phase minimises: the sum of its terms by their weights."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


@contextmanager
def moved(parameters: list[nn.Parameter], direction: Gradients, length: float) -> Iterator[None]:
    """The parameters at p + length * direction for the time of a block; then they are as before, bit for bit."""
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


def _add(gradients: Gradients, more: Sequence[Tensor | None]) -> None:
    """Adds to each what there is more of it, in place."""
    for number, (sum_, part) in enumerate(zip(gradients, more, strict=True)):
        gradients[number] = part if sum_ is None else sum_ if part is None else sum_.add_(part)


def _laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with the strides of its parameter, as fused optimizers on GPUs want it."""
    alike = gradient.stride() == parameter.stride()
    return gradient if alike else torch.empty_like(parameter).copy_(gradient)


def _scale(config: AdamConfig, norm: float) -> float:
    """By which gradients of this norm are multiplied before a step."""
    if config.unit_norm:
        return 1 / max(norm, torch.finfo(torch.float32).tiny)
    return 1.0 if config.clip_norm is None else min(1.0, config.clip_norm / (norm + 1e-6))


def _norm(gradients: Gradients) -> Tensor:
    return torch.nn.utils.get_total_norm([g for g in gradients if g is not None])


def _split(gradients: Gradients, count: int) -> tuple[Gradients, Gradients]:
    return gradients[:count], gradients[count:]


def _hypergradient(direct: Tensor | None, ahead: Tensor | None, behind: Tensor | None, scale: float) -> Tensor | None:
    """Of a parameter: what the aim has of it at once, and what it has through the inner step."""
    if ahead is None or behind is None:
        return direct
    through = (behind - ahead) * scale
    return through if direct is None else direct + through
