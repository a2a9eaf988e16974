"""Algorithm 1 of DGI for any generator: a teacher is trained and frozen, then it and the meta-networks guide a student.

In: a student and a teacher, each with a way to run it, and which lessons there are. Out: networks and stages. A file of
its own because DGI's network and other papers' backbones (Table 3) learn by the same steps. Outputs are told apart by
name: features that can be taught are `encoded_<level>`, and of attentions `query_<level>`, `key_<level>` and
`decoded_<level>`; the teacher's stand under `teacher_`, what a student learns from itself under `held_`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import torch
from torch import nn
from torch.nn import functional as F

from nets.distill.distillation import Attended, Distillation, Features
from nets.distill.meta import Alignment, MetaNetworks
from nets.objective import BilevelPhase, Forward, Inputs, Objective, Outputs, Phase, Stage, Terms

_TEACHER: Final = "teacher_"
_HELD: Final = "held_"


@dataclass(frozen=True)
class GuidanceConfig:
    """What is taught, by which weight, and how the meta-networks learn; the defaults are DGI's, or ours."""

    cross_distillation: bool = True
    """CD: cross-distillation, the teacher's encoder to the student's (Eq. 2)."""
    self_distillation: bool = True
    """SD: self-distillation, a deeper level of the student's encoder to the level before it (Eq. 3)."""
    attention_transfer: bool = True
    """AttD: attention transfer (Eq. 9)."""
    auxiliary_images: int = 600_000
    """Clock at which the teacher is frozen, on which the teaching begins; not used where nothing is learned from it."""
    weight: float = 20.0
    """Of all three terms (lambda_d of Eq. 11)."""
    imagined_rate: float = 2e-4
    """Learning rate of the student's step through which the meta-networks are trained."""
    every: int = 10
    """The meta-networks are updated in steps whose number is a multiple of this; Algorithm 1 does so in every step."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the lessons' terms."""
        lessons = (
            ("cross", self.cross_distillation),
            ("self", self.self_distillation),
            ("attention", self.attention_transfer),
        )
        return tuple(name for name, on in lessons if on)

    @property
    def has_teacher(self) -> bool:
        """Whether anything is learned from another network."""
        return self.cross_distillation or self.attention_transfer


@dataclass(frozen=True)
class Student:
    """A generator, its own terms, and which of its features can be taught."""

    network: nn.Module
    run: Forward
    terms: Callable[[Outputs], Terms]
    weights: Mapping[str, float]
    channels: Sequence[int]
    """Of each level of the encoder, from 1 on."""
    attended: Mapping[int, int] = field(default_factory=dict)
    """Channels of the features before the attention of a level."""


@dataclass(frozen=True)
class Teacher:
    """A network that is given whole pictures, and the names of its outputs that shall be these pictures again."""

    network: nn.Module
    run: Forward
    pictures: tuple[str, ...] = ("predicted",)


def build_guided_objective(
    student: Student, teacher: Teacher | None, config: GuidanceConfig, teachers: Mapping[str, nn.Module]
) -> Objective:
    """The training of a student, alone if there are no lessons; `teachers` are those that only its own terms need."""
    if not config.terms:
        alone = Phase("inpaint", ("generator",), student.terms, student.weights)
        stage = Stage("inpainting", None, lambda i: student.run(i) | i.to_outputs(), (alone,))
        return Objective({"generator": student.network}, (stage,), dict(teachers))
    distillation = _distillation(student, config)
    networks: dict[str, nn.Module] = {"generator": student.network, "meta": distillation.meta}
    networks |= {"alignment": distillation.alignment} if distillation.alignment else {}
    inpaint = Phase(
        "inpaint",
        tuple(name for name in networks if name != "meta"),
        lambda o: student.terms(o) | _lessons(student, config, distillation, o),
        {**student.weights, **dict.fromkeys(config.terms, config.weight)},
    )
    guide = BilevelPhase("guide", ("meta",), inpaint, student.terms, student.weights, config.imagined_rate,
                         every=config.every, held=_held(student, config))  # fmt: skip
    stages = [Stage("distillation", None, partial(_taught, student, teacher, config), (inpaint, guide))]
    if teacher is not None:
        networks["auxiliary"] = teacher.network
        stages = [_reproduction(teacher, config), *stages]
    return Objective(networks, tuple(stages), dict(teachers))


def _distillation(student: Student, config: GuidanceConfig) -> Distillation:
    decoded = list(student.attended.values()) if config.attention_transfer else []
    meta = MetaNetworks(
        student.channels,
        decoded,
        cross_distillation=config.cross_distillation,
        self_distillation=config.self_distillation,
    )
    return Distillation(meta, Alignment(student.channels) if config.self_distillation else None)


def _reproduction(teacher: Teacher, config: GuidanceConfig) -> Stage:
    """The stage in which the teacher becomes an autoencoder (section 4: L1 alone)."""

    def terms(o: Outputs) -> Terms:
        return {f"l1_{_TEACHER}{name}": F.l1_loss(o[name], o["image"]) for name in teacher.pictures}

    weights = {f"l1_{_TEACHER}{name}": 1.0 for name in teacher.pictures}
    phase = Phase("reproduce", ("auxiliary",), terms, weights)
    return Stage("auxiliary", config.auxiliary_images, lambda i: teacher.run(i) | i.to_outputs(), (phase,))


def _taught(student: Student, teacher: Teacher | None, config: GuidanceConfig, inputs: Inputs) -> Outputs:
    """Outputs of the student and of the frozen teacher, and what the student's levels learn from each other."""
    outputs = student.run(inputs)
    outputs |= {name: outputs[name.removeprefix(_HELD)].detach() for name in _held(student, config)}
    if teacher is not None:
        with torch.no_grad():
            found = teacher.run(inputs)
        outputs |= {f"{_TEACHER}{name}": feature for name, feature in found.items()}
    return outputs | inputs.to_outputs()


def _held(student: Student, config: GuidanceConfig) -> tuple[str, ...]:
    """The features that teach the level before them (Eq. 3)."""
    return tuple(f"{_HELD}encoded_{level}" for level in range(2, len(student.channels) + 1) if config.self_distillation)


def _lessons(student: Student, config: GuidanceConfig, distillation: Distillation, o: Outputs) -> Terms:
    teacher = _features(student, config, o, _TEACHER) if config.has_teacher else Features()
    held = [o[name] for name in _held(student, config)]
    return distillation.terms(_features(student, config, o, ""), teacher, held, o["mask"])


def _features(student: Student, config: GuidanceConfig, o: Outputs, prefix: str) -> Features:
    encoded = [o[f"{prefix}encoded_{level}"] for level in range(1, len(student.channels) + 1)]
    levels = student.attended if config.attention_transfer else ()
    parts = [[o[f"{prefix}{name}_{level}"] for name in ("query", "key", "decoded")] for level in levels]
    return Features(encoded, [Attended(*part) for part in parts])
