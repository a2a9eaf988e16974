"""The learning step of a baseline, alone or with DGI's distillation of its encoder and its attention (Table 3).

The teacher is the backbone itself without completion blocks and with nothing missing: first it learns to reproduce
whole pictures, then it is frozen, as DGI's auxiliary network. GC* teaches the coarse network; GC-dagger the contextual
attention, whose keys are those of the student; EC* and EC# the second generator. The baselines' own terms are absolute
errors of their pictures and, of EC, the entropy of its edges; the adversarial terms of their papers are left out.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from torch.nn import functional as F

from nets.baselines.edge import EC, ECConfig, find_edges
from nets.baselines.gated import GC, GCConfig
from nets.baselines.partial import PC, PCConfig
from nets.distill.guidance import GuidanceConfig, Student, Teacher, build_guided_objective
from nets.objective import Inputs, Objective, Outputs, Terms, Weights

Backbone = GC | EC | PC
BackboneConfig = GCConfig | ECConfig | PCConfig
ALONE: Final = GuidanceConfig(cross_distillation=False, self_distillation=False, attention_transfer=False)
ENCODER: Final = GuidanceConfig(attention_transfer=False)
"""With completion blocks in the backbone: * of Table 3, and # of EC without edges."""
ATTENTION: Final = GuidanceConfig(cross_distillation=False, self_distillation=False)
"""The dagger of Table 3."""


@dataclass(frozen=True)
class BaselineObjectiveConfig:
    """A backbone and what it is taught."""

    network: BackboneConfig = field(default_factory=GCConfig)
    guidance: GuidanceConfig = ALONE
    edge_weight: float = 0.1
    """Of the entropy of EC's edges."""

    def __post_init__(self) -> None:
        if self.guidance.attention_transfer and not isinstance(self.network, GCConfig):
            raise ValueError(f"transfer is on and a {type(self.network).__name__} has no attention: take a GCConfig")

    @property
    def needs_weights(self) -> tuple[str, ...]:
        """No files of weights."""
        return ()


def build_baseline_objective(config: BaselineObjectiveConfig, _: Weights) -> Objective:
    """Backbone, teacher, meta-networks and alignment, as far as asked for, with fresh weights."""
    generator = build_backbone(config.network)
    pictures, draws = _pictures(config.network), isinstance(config.network, ECConfig) and config.network.edges

    def terms(o: Outputs) -> Terms:
        errors = {f"l1_{_TERMS[name]}": F.l1_loss(o[name], o["image"]) for name in pictures}
        return errors | ({"edge": F.binary_cross_entropy_with_logits(o["edge_scores"], o["edge"])} if draws else {})

    weights = {f"l1_{_TERMS[name]}": 1.0 for name in pictures} | ({"edge": config.edge_weight} if draws else {})
    attended = dict(enumerate(generator.attended, start=1))
    student = Student(generator, lambda i: _run(generator, i), terms, weights, generator.taught, attended)
    teacher = _teacher(config.network) if config.guidance.has_teacher else None
    return build_guided_objective(student, teacher, config.guidance, {})


_TERMS: Final = {"predicted": "out", "coarse": "coarse"}
"""What the error of a picture is called."""


def _pictures(config: BackboneConfig) -> tuple[str, ...]:
    """The pictures that a backbone makes."""
    return ("predicted", "coarse") if isinstance(config, GCConfig) else ("predicted",)


def build_backbone(config: BackboneConfig) -> Backbone:
    """The network of a configuration, with fresh weights."""
    match config:
        case GCConfig():
            return GC(config)
        case ECConfig():
            return EC(config)
        case PCConfig():
            return PC(config)


def _run(backbone: Backbone, inputs: Inputs) -> Outputs:
    """The backbone's outputs; EC's with the edges that it should draw, those that the photo brings if it does."""
    if not isinstance(backbone, EC) or backbone.edges is None:
        outputs: Outputs = backbone(inputs.image, inputs.mask)
        return outputs
    edge = inputs.planes.get("edge")
    if edge is None:
        edge = find_edges(inputs.image, inputs.mask * 0)
    return {**backbone(inputs.image, inputs.mask, edge), "edge": edge}


def _teacher(config: BackboneConfig) -> Teacher:
    """The same backbone for whole pictures: no completion blocks, no smooth fill, no edges to draw."""
    plain = replace(config, completion=False, residual=False)
    network = build_backbone(replace(plain, edges=False) if isinstance(plain, ECConfig) else plain)

    def run(inputs: Inputs) -> Outputs:
        nothing = inputs.mask * 0
        outputs: Outputs = (
            network(inputs.image, nothing, inputs.mask) if isinstance(network, GC) else network(inputs.image, nothing)
        )
        return outputs

    return Teacher(network, run, _pictures(config))
