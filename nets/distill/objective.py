"""The learning step of DGI: the auxiliary network, then the inpainting network under its guidance (Algorithm 1).

First AN learns to reproduce whole pictures (L1) and is frozen. Then each step updates theta, the inpainting network and
the convolutions that align its levels, by Eq. 11; some steps also update the meta-networks Psi, by the gradient of the
inpainting terms through such a step. Those terms are R_recon and R_style alone: Eq. 11 as printed includes the
distillation terms, which Psi could lower without any use to the picture.

Variants of Table 2 are fields; `VARIANTS` names them.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import torch
from torch import Tensor

from nets.distill.confidence import Blur, compute_confidence
from nets.distill.guidance import GuidanceConfig, Student, Teacher, build_guided_objective
from nets.distill.network import AuxiliaryNetwork, DistillConfig, InpaintingNetwork
from nets.features import VGGFeatures
from nets.literals import LiteralChecked
from nets.losses import confidence_weighted_l1, style_l1
from nets.objective import Objective, Outputs, Terms, Weights

_VGG: Final = "vgg16_features"
_STYLE: Final = {"relu2_2": 1 / 2, "relu3_3": 1 / 4, "relu4_3": 1 / 8}
"""Layers of VGG-16, with the divisors of the code of the cited loss (Chang et al. 2019)."""


@dataclass(frozen=True)
class DistillObjectiveConfig(LiteralChecked):
    """Parts and weights of a DGI training; the defaults are the paper's, or ours where it gives none."""

    network: DistillConfig = field(default_factory=DistillConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    reconstruction_weight: float = 1.0
    style_weight: float = 150.0
    """Weight of the style term; 0: no VGG-16 is needed."""
    confidence_px: int = 65
    """Width of the blur that makes the confidence of hole pixels."""
    blur: Blur = "code"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.guidance.attention_transfer and not (self.network.attention and self.network.attended_levels):
            raise ValueError("attention_transfer is on, but the network has no attention: set attention on or that off")
        if self.guidance.self_distillation and self.network.num_levels < 2:
            raise ValueError("self_distillation is on, but the encoder has one level: use two or more, or set it off")

    @property
    def needs_weights(self) -> tuple[str, ...]:
        """VGG-16, unless there is no style term."""
        return (_VGG,) if self.style_weight else ()


VARIANTS: Final[dict[str, tuple[bool, bool, bool, bool, bool, bool]]] = {
    "baseline": (False, False, False, False, False, False),
    "net1": (True, False, False, False, False, False),
    "net2": (False, True, False, False, False, False),
    "net3": (True, True, False, False, False, False),
    "net4": (True, True, True, False, False, False),
    "net5": (False, False, True, False, False, False),
    "net6": (True, True, True, True, False, False),
    "net7": (True, True, True, True, True, False),
    "net8": (True, True, True, True, True, True),
}
"""CD, SD, CB, Att, AttD and PGL of the networks of Table 2, as the paper's text defines them."""


def make_variant(name: str, config: DistillObjectiveConfig) -> DistillObjectiveConfig:
    """Config with the parts of a network of VARIANTS and with Net8's number of parameters (section 4.1)."""
    if name not in VARIANTS:
        raise ValueError(f"unknown variant {name!r}: use one of {', '.join(VARIANTS)}")
    cross, self_distillation, completion, attention, transfer, fusion = VARIANTS[name]
    network = replace(config.network, completion=completion, attention=attention, fusion=fusion, matched=True)
    guidance = replace(
        config.guidance,
        cross_distillation=cross,
        self_distillation=self_distillation,
        attention_transfer=transfer,
    )
    return replace(config, network=network, guidance=guidance)


def build_distill_objective(config: DistillObjectiveConfig, weights: Weights) -> Objective:
    """Objective of the networks that this variant trains, with fresh weights, and VGG-16 with the given ones."""
    generator = InpaintingNetwork(config.network)
    vgg = VGGFeatures(16, tuple(_STYLE), weights[_VGG]) if config.style_weight else None
    width, levels = config.network.width, config.network.attended_levels
    student = Student(
        generator,
        lambda i: generator(i.image, i.mask),
        partial(compute_inpainting_terms, vgg, config.confidence_px, config.blur),
        {"l1_out": config.reconstruction_weight} | ({"style": config.style_weight} if vgg else {}),
        [width] * config.network.num_levels,
        dict.fromkeys(levels, width),
    )
    teacher = None
    if config.guidance.has_teacher:
        auxiliary = AuxiliaryNetwork(config.network)
        teacher = Teacher(auxiliary, lambda i: auxiliary(i.image))
    return build_guided_objective(student, teacher, config.guidance, {"vgg16": vgg} if vgg else {})


def compute_inpainting_terms(vgg: VGGFeatures | None, confidence_px: int, blur: Blur, o: Outputs) -> Terms:
    """R_recon and, given VGG-16, R_style of the prediction and of the composite (Eq. 11)."""
    image, mask = o["image"], o["mask"]
    terms = {
        "l1_out": confidence_weighted_l1(o["predicted"], image, mask, compute_confidence(mask, confidence_px, blur))
    }
    if vgg is not None:
        with torch.no_grad():
            target = vgg(image)
        terms["style"] = _compute_style(vgg, o["predicted"], target) + _compute_style(vgg, o["inpainted"], target)
    return terms


def _compute_style(vgg: VGGFeatures, picture: Tensor, target: dict[str, Tensor]) -> Tensor:
    return style_l1(vgg(picture), target, _STYLE)
