"""Algorithm 1 of DGI for any generator: a teacher is trained and frozen, then it and the meta-networks guide a student.

In: a student and a teacher, each with a function that runs it, and the lessons. Out: networks and stages. Outputs have
meanings by name: features that can be distilled are `encoded_<level>`, those of attentions `query_<level>`,
`key_<level>` and `decoded_<level>`; the teacher's have the prefix `teacher_`, targets of self-distillation `held_`.
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
    """Lessons, their weight, and how the meta-networks learn; the defaults are DGI's or ours."""

    cross_distillation: bool = True
    """CD: cross-distillation, the teacher's encoder to the student's (Eq. 2)."""
    self_distillation: bool = True
    """SD: self-distillation, a deeper level of the student's encoder to the level before it (Eq. 3)."""
    attention_transfer: bool = True
    """AttD: attention transfer (Eq. 9)."""
    auxiliary_images: int = 600_000
    """Images seen when the teacher is frozen and distillation begins; not used without a teacher."""
    weight: float = 20.0
    """Weight of all three terms (lambda_d of Eq. 11)."""
    imagined_rate: float = 2e-4
    """Learning rate of the student's step through which the meta-networks are trained."""
    every: int = 10
    """Period in steps of the updates of the meta-networks; 1 in Algorithm 1."""

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
        """Whether a lesson comes from another network."""
        return self.cross_distillation or self.attention_transfer


@dataclass(frozen=True)
class Student:
    """Generator, its own terms, and its features that can be distilled."""

    network: nn.Module
    run: Forward
    terms: Callable[[Outputs], Terms]
    weights: Mapping[str, float]
    channels: Sequence[int]
    """Channels of each level of the encoder, from level 1 on."""
    attended: Mapping[int, int] = field(default_factory=dict)
    """Channels of the features before each attention, by its level."""


@dataclass(frozen=True)
class Teacher:
    """Network that sees whole pictures, and the names of its outputs that reproduce them."""

    network: nn.Module
    run: Forward
    pictures: tuple[str, ...] = ("predicted",)


def build_guided_objective(
    student: Student, teacher: Teacher | None, config: GuidanceConfig, teachers: Mapping[str, nn.Module]
) -> Objective:
    """Objective of a student, alone if there are no lessons; `teachers` serve its own terms."""
    if not config.terms:
        alone = Phase("inpaint", ("generator",), student.terms, student.weights)
        stage = Stage("inpainting", None, lambda i: student.run(i) | i.to_outputs(), (alone,))
        return Objective({"generator": student.network}, (stage,), dict(teachers))
    # Lessons join the student's own terms.
    distillation = _build_distillation(student, config)
    networks: dict[str, nn.Module] = {"generator": student.network, "meta": distillation.meta}
    networks |= {"alignment": distillation.alignment} if distillation.alignment else {}
    inpaint = Phase(
        "inpaint",
        tuple(name for name in networks if name != "meta"),
        lambda o: student.terms(o) | _compute_lesson_terms(student, config, distillation, o),
        {**student.weights, **dict.fromkeys(config.terms, config.weight)},
    )
    # Meta-networks learn from the student's own terms, the teacher before all others.
    guide = BilevelPhase("guide", ("meta",), inpaint, student.terms, student.weights, config.imagined_rate,
                         every=config.every, held=_list_held(student, config))  # fmt: skip
    stages = [Stage("distillation", None, partial(_forward_guided, student, teacher, config), (inpaint, guide))]
    if teacher is not None:
        networks["auxiliary"] = teacher.network
        stages = [_build_reproduction_stage(teacher, config), *stages]
    return Objective(networks, tuple(stages), dict(teachers))


def _build_distillation(student: Student, config: GuidanceConfig) -> Distillation:
    decoded = list(student.attended.values()) if config.attention_transfer else []
    meta = MetaNetworks(
        student.channels,
        decoded,
        cross_distillation=config.cross_distillation,
        self_distillation=config.self_distillation,
    )
    return Distillation(meta, Alignment(student.channels) if config.self_distillation else None)


def _build_reproduction_stage(teacher: Teacher, config: GuidanceConfig) -> Stage:
    """Build the stage that trains the teacher as an autoencoder (section 4: L1 alone)."""

    def terms(o: Outputs) -> Terms:
        return {f"l1_{_TEACHER}{name}": F.l1_loss(o[name], o["image"]) for name in teacher.pictures}

    weights = {f"l1_{_TEACHER}{name}": 1.0 for name in teacher.pictures}
    phase = Phase("reproduce", ("auxiliary",), terms, weights)
    return Stage("auxiliary", config.auxiliary_images, lambda i: teacher.run(i) | i.to_outputs(), (phase,))


def _forward_guided(student: Student, teacher: Teacher | None, config: GuidanceConfig, inputs: Inputs) -> Outputs:
    """Outputs of the student and of the frozen teacher, and the targets of self-distillation."""
    outputs = student.run(inputs)
    outputs |= {name: outputs[name.removeprefix(_HELD)].detach() for name in _list_held(student, config)}
    if teacher is not None:
        with torch.no_grad():
            targets = teacher.run(inputs)
        outputs |= {f"{_TEACHER}{name}": feature for name, feature in targets.items()}
    return outputs | inputs.to_outputs()


def _list_held(student: Student, config: GuidanceConfig) -> tuple[str, ...]:
    """Names of the features that are targets for the level before them (Eq. 3)."""
    return tuple(f"{_HELD}encoded_{level}" for level in range(2, len(student.channels) + 1) if config.self_distillation)


def _compute_lesson_terms(student: Student, config: GuidanceConfig, distillation: Distillation, o: Outputs) -> Terms:
    teacher = _collect_features(student, config, o, _TEACHER) if config.has_teacher else Features()
    held = [o[name] for name in _list_held(student, config)]
    return distillation.terms(_collect_features(student, config, o, ""), teacher, held, o["mask"])


def _collect_features(student: Student, config: GuidanceConfig, o: Outputs, prefix: str) -> Features:
    encoded = [o[f"{prefix}encoded_{level}"] for level in range(1, len(student.channels) + 1)]
    levels = student.attended if config.attention_transfer else ()
    parts = [[o[f"{prefix}{name}_{level}"] for name in ("query", "key", "decoded")] for level in levels]
    return Features(encoded, [Attended(*part) for part in parts])
