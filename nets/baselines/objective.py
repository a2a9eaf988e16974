"""The learning step of a baseline, alone or with DGI's distillation of its encoder and its attention (Table 3).

The teacher is the backbone without completion blocks and without holes: it first learns to reproduce whole pictures
and is then frozen, as DGI's auxiliary network is. GC* distills the coarse network, GC-dagger the contextual attention,
whose keys are those of the student, EC* and EC# the second generator. The baselines' own terms are absolute errors of
their pictures and, for EC, the entropy of its edges; the adversarial terms of their papers are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

from torch.nn import functional as F

from nets.baselines.edge import EC, ECConfig, find_edges
from nets.baselines.gated import GC, GCConfig
from nets.baselines.partial import PC, PCConfig
from nets.distill.guidance import GuidanceConfig, Student, Teacher, build_guided_objective
from nets.objective import Inputs, Objective, Outputs, Terms, Weights

Backbone = GC | EC | PC
BackboneConfig = GCConfig | ECConfig | PCConfig
_BACKBONES: Final[dict[type, Callable[[Any], Backbone]]] = {GCConfig: GC, ECConfig: EC, PCConfig: PC}
ALONE: Final = GuidanceConfig(cross_distillation=False, self_distillation=False, attention_transfer=False)
ENCODER: Final = GuidanceConfig(attention_transfer=False)
"""Distillation of the encoder; with completion blocks it is * of Table 3, and # for EC without edges."""
ATTENTION: Final = GuidanceConfig(cross_distillation=False, self_distillation=False)
"""Distillation of the attention: the dagger of Table 3."""


@dataclass(frozen=True)
class BaselineObjectiveConfig:
    """Backbone and its distillation."""

    network: BackboneConfig = field(default_factory=GCConfig)
    guidance: GuidanceConfig = ALONE
    edge_weight: float = 0.1
    """Weight of the entropy of EC's edges."""

    def __post_init__(self) -> None:
        if self.guidance.attention_transfer and not isinstance(self.network, GCConfig):
            raise ValueError(
                f"attention_transfer is on, but a {type(self.network).__name__} has no attention: use a GCConfig"
            )

    needs_weights: ClassVar[tuple[str, ...]] = ()


def build_baseline_objective(config: BaselineObjectiveConfig, _: Weights) -> Objective:
    """Backbone with fresh weights, and the teacher, meta-networks and alignment that the config needs."""
    generator = build_backbone(config.network)
    pictures = _list_pictures(config.network)
    has_edges = isinstance(config.network, ECConfig) and config.network.edges

    def terms(o: Outputs) -> Terms:
        errors = {f"l1_{_TERMS[name]}": F.l1_loss(o[name], o["image"]) for name in pictures}
        return errors | ({"edge": F.binary_cross_entropy_with_logits(o["edge_scores"], o["edge"])} if has_edges else {})

    weights = {f"l1_{_TERMS[name]}": 1.0 for name in pictures} | ({"edge": config.edge_weight} if has_edges else {})
    attended = dict(enumerate(generator.attention_channels, start=1))
    student = Student(generator, lambda i: _run(generator, i), terms, weights, generator.distilled_channels, attended)
    teacher = _build_teacher(config.network) if config.guidance.has_teacher else None
    return build_guided_objective(student, teacher, config.guidance, {})


_TERMS: Final = {"predicted": "out", "coarse": "coarse"}
"""Names of the error terms of the pictures."""


def _list_pictures(config: BackboneConfig) -> tuple[str, ...]:
    """Pictures among the outputs of a backbone."""
    return ("predicted", "coarse") if isinstance(config, GCConfig) else ("predicted",)


def build_backbone(config: BackboneConfig) -> Backbone:
    """Network of a config, with fresh weights."""
    return _BACKBONES[type(config)](config)


def _run(backbone: Backbone, inputs: Inputs) -> Outputs:
    """Outputs of the backbone; for EC also the target edges, by default those found in the photo."""
    if not isinstance(backbone, EC) or backbone.edges is None:
        outputs: Outputs = backbone(inputs.image, inputs.mask)
        return outputs
    edge = inputs.planes.get("edge")
    if edge is None:
        edge = find_edges(inputs.image, inputs.mask * 0)
    return {**backbone(inputs.image, inputs.mask, edge), "edge": edge}


def _build_teacher(config: BackboneConfig) -> Teacher:
    """Backbone for whole pictures: no completion blocks, no smooth fill, no edges to draw."""
    plain = replace(config, completion=False, residual=False)
    network = build_backbone(replace(plain, edges=False) if isinstance(plain, ECConfig) else plain)

    def run(inputs: Inputs) -> Outputs:
        nothing = inputs.mask * 0
        outputs: Outputs = (
            network(inputs.image, nothing, inputs.mask) if isinstance(network, GC) else network(inputs.image, nothing)
        )
        return outputs

    return Teacher(network, run, _list_pictures(config))
