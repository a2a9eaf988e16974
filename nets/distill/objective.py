"""The learning step of DGI: the auxiliary network, then the inpainting network under its guidance (Algorithm 1).

First AN learns to reproduce whole pictures (L1) and is frozen. Then each step updates theta, the inpainting network and
the convolutions that align its levels, by Eq. 11; and every so often the meta-networks Psi by the gradient of the
inpainting terms through such a step. Those terms are R_recon and R_style alone: as printed, Eq. 11 gives their name to
the sum with the distillation terms, which Psi could then lower without any use to the picture.

Variants of Table 2 are fields; `VARIANTS` names them.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.distill.confidence import Blur, confidence
from nets.distill.distillation import Attended, Distillation, Features
from nets.distill.meta import Alignment, MetaNetworks
from nets.distill.network import AuxiliaryNetwork, DistillConfig, InpaintingNetwork
from nets.features import VGGFeatures
from nets.losses import confidence_weighted_l1, style_l1
from nets.objective import BilevelPhase, Inputs, Objective, Outputs, Phase, Stage, Terms, Weights

_VGG: Final = "vgg16_features"
_TEACHER: Final = "teacher_"
_HELD: Final = "held_"
_STYLE: Final = {"relu2_2": 1 / 2, "relu3_3": 1 / 4, "relu4_3": 1 / 8}
"""Of VGG-16, with the divisors of the code of the cited loss (Chang et al. 2019)."""


@dataclass(frozen=True)
class DistillObjectiveConfig:
    """Parts and weights of a DGI training; the defaults are the paper's, or ours where it is silent."""

    network: DistillConfig = field(default_factory=DistillConfig)
    cross: bool = True
    """CD: cross-distillation, encoder of AN to encoder of IN (Eq. 2)."""
    within: bool = True
    """SD: self-distillation, deeper to shallower level of IN's encoder (Eq. 3)."""
    transfer: bool = True
    """AttD: attention transfer (Eq. 9)."""
    auxiliary_images: int = 600_000
    """Clock at which AN is frozen, on which the teaching begins; not used where nothing is learned from AN."""
    reconstruction_weight: float = 1.0
    distillation_weight: float = 20.0
    """Of the distillation terms and of attention transfer."""
    style_weight: float = 150.0
    """0: no VGG-16 is needed."""
    confidence_px: int = 65
    """Width of the blur by which the hole's pixels get their confidence."""
    blur: Blur = "code"
    imagined_rate: float = 2e-4
    """Learning rate of the step of theta through which the meta-networks are trained."""
    meta_every: int = 10
    """The meta-networks are updated in steps whose number is a multiple of this; Algorithm 1 does so in every step."""

    def __post_init__(self) -> None:
        if self.transfer and not self.network.attention:
            raise ValueError("transfer is on and the network has no attention: set its attention, or transfer off")

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
"""CD, SD, CB, Att, AttD and PGL of the networks of Table 2, as its text defines them."""


def variant(name: str, config: DistillObjectiveConfig) -> DistillObjectiveConfig:
    """The configuration with the parts of a network of VARIANTS, and with Net8's number of parameters (section 4.1)."""
    if name not in VARIANTS:
        raise ValueError(f"unknown variant {name!r}: known are {', '.join(VARIANTS)}")
    cross, within, completion, attention, transfer, fusion = VARIANTS[name]
    network = replace(config.network, completion=completion, attention=attention, fusion=fusion, matched=True)
    return replace(config, network=network, cross=cross, within=within, transfer=transfer)


def distill_objective(config: DistillObjectiveConfig, weights: Weights) -> Objective:
    """All networks with fresh weights, those alone that this variant trains; VGG-16 with those given."""
    generator = InpaintingNetwork(config.network)
    vgg = VGGFeatures(16, tuple(_STYLE), weights[_VGG]) if config.style_weight else None
    picture_terms = partial(inpainting_terms, vgg, config.confidence_px, config.blur)
    picture_weights = {"l1_out": config.reconstruction_weight} | ({"style": config.style_weight} if vgg else {})
    guidance = _guidance(config)
    auxiliary = AuxiliaryNetwork(config.network) if config.cross or config.transfer else None
    inpaint = Phase(
        "inpaint",
        ("generator", *(["alignment"] if config.within else [])),
        lambda o: picture_terms(o) | (_distillation_terms(config, guidance, o) if guidance else {}),
        picture_weights | dict.fromkeys(_asked(config), config.distillation_weight),
    )
    phases: tuple[Phase | BilevelPhase, ...] = (inpaint,)
    if guidance:
        guide = BilevelPhase("guide", ("meta",), inpaint, picture_terms, picture_weights, config.imagined_rate,
                             every=config.meta_every, held=_held(config))  # fmt: skip
        phases = (inpaint, guide)
    networks: dict[str, nn.Module] = {"generator": generator}
    stages = [Stage("distillation", None, partial(_forward, config, generator, auxiliary), phases)]
    if auxiliary:
        reproduce = Phase("reproduce", ("auxiliary",), _auxiliary_terms, {"l1_auxiliary": 1.0})
        first = Stage("auxiliary", config.auxiliary_images, partial(_auxiliary_forward, auxiliary), (reproduce,))
        networks, stages = networks | {"auxiliary": auxiliary}, [first, *stages]
    if guidance:
        networks |= {"meta": guidance.meta} | ({"alignment": guidance.alignment} if guidance.alignment else {})
    return Objective(networks, tuple(stages), {"vgg16": vgg} if vgg else {})


def _asked(config: DistillObjectiveConfig) -> list[str]:
    """The distillation terms of a variant."""
    return [
        name for name, on in (("cross", config.cross), ("self", config.within), ("attention", config.transfer)) if on
    ]


def _guidance(config: DistillObjectiveConfig) -> Distillation | None:
    if not _asked(config):
        return None
    channels = [config.network.width] * config.network.num_levels
    decoded = [config.network.width] * len(config.network.attended_levels) if config.transfer else []
    meta = MetaNetworks(channels, decoded, cross=config.cross, within=config.within)
    return Distillation(meta, Alignment(channels) if config.within else None)


def _auxiliary_forward(auxiliary: AuxiliaryNetwork, inputs: Inputs) -> Outputs:
    return inputs.as_outputs() | {"reproduced": auxiliary(inputs.image)["predicted"]}


def _auxiliary_terms(o: Outputs) -> Terms:
    return {"l1_auxiliary": F.l1_loss(o["reproduced"], o["image"])}


def _forward(
    config: DistillObjectiveConfig, generator: InpaintingNetwork, auxiliary: AuxiliaryNetwork | None, inputs: Inputs
) -> Outputs:
    """Outputs of IN, of the frozen AN as `teacher_...`, and what IN's levels learn from each other as `held_...`."""
    outputs: Outputs = generator(inputs.image, inputs.mask)
    outputs |= {name: outputs[name.removeprefix(_HELD)].detach() for name in _held(config)}
    if auxiliary is not None:
        with torch.no_grad():
            taught = auxiliary(inputs.image)
        outputs |= {f"{_TEACHER}{name}": feature for name, feature in taught.items()}
    return outputs | inputs.as_outputs()


def _held(config: DistillObjectiveConfig) -> tuple[str, ...]:
    """The features that teach the level above them (Eq. 3)."""
    return tuple(f"{_HELD}encoded_{level}" for level in range(2, config.network.num_levels + 1) if config.within)


def _distillation_terms(config: DistillObjectiveConfig, guidance: Distillation, o: Outputs) -> Terms:
    teacher = _features_of(config, o, _TEACHER) if config.cross or config.transfer else Features()
    return guidance.terms(_features_of(config, o, ""), teacher, [o[name] for name in _held(config)], o["mask"])


def _features_of(config: DistillObjectiveConfig, o: Outputs, prefix: str) -> Features:
    encoded = [o[f"{prefix}encoded_{level}"] for level in range(1, config.network.num_levels + 1)]
    levels = config.network.attended_levels if config.transfer else ()
    parts = [[o[f"{prefix}{name}_{level}"] for name in ("query", "key", "decoded")] for level in levels]
    return Features(encoded, [Attended(*part) for part in parts])


def inpainting_terms(vgg: VGGFeatures | None, confidence_px: int, blur: Blur, o: Outputs) -> Terms:
    """R_recon and, given VGG-16, R_style, of the prediction and of the composite (Eq. 11)."""
    image, mask = o["image"], o["mask"]
    terms = {"l1_out": confidence_weighted_l1(o["predicted"], image, mask, confidence(mask, confidence_px, blur))}
    if vgg is not None:
        with torch.no_grad():
            target = vgg(image)
        terms["style"] = _style(vgg, o["predicted"], target) + _style(vgg, o["inpainted"], target)
    return terms


def _style(vgg: VGGFeatures, picture: Tensor, target: dict[str, Tensor]) -> Tensor:
    return style_l1(vgg(picture), target, _STYLE)
