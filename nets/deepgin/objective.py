"""The learning step of DeepGIN: an L1 warm-up of the generator, then generator and critics in turn (sections 4.2, 5.1).

Terms and weights are those of Eq. 7. The generator's update comes before the critics', both from one run of the
generator, as in the authors' code. Perceptual and style term need VGG-19 and are left out if their weights are 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from nets.critics import TwoScalePatchCritic
from nets.deepgin.network import DeepGIN, DeepGINConfig, reduce_to
from nets.features import VGGFeatures
from nets.literals import LiteralChecked
from nets.losses import (
    Mode,
    hinge_critic,
    hinge_generator,
    hole_weighted_l1,
    perceptual,
    style_l1,
    style_l2,
    total_variation,
    total_variation_l2,
)
from nets.objective import Inputs, Objective, Outputs, Phase, Stage, Terms, Weights

PAPER_LAYERS: Final = {f"conv{block}_1": 1.0 for block in range(1, 6)}
CODE_LAYERS: Final = {"relu1_1": 1 / 32, "relu2_1": 1 / 16, "relu3_1": 1 / 8, "relu4_1": 1 / 4, "conv5_1": 1.0}
_VGG: Final = "vgg19_features"


@dataclass(frozen=True)
class DeepGINObjectiveConfig(LiteralChecked):
    """Sizes and weights of a DeepGIN training; the defaults are the paper's."""

    network: DeepGINConfig = field(default_factory=DeepGINConfig)
    critic_width: int = 64
    warm_up_images: int = 100_000
    """Images seen when the critics join; the paper: 10 epochs."""
    hole_weight: float = 5.0
    adversarial_weight: float = 0.001
    total_variation_weight: float = 0.1
    perceptual_weight: float = 0.05
    style_weight: float = 80.0
    mode: Mode = "paper"
    """Source where the two differ. Paper: VGG-19's five conv<n>_1, of equal weight, of pictures as they are; style and
    total variation are mean absolute differences (Eq. 4-6). Code: the first four of them rectified, weights 1/32 to 1,
    of resized pictures; mean squared differences, those of neighbors twice. Neither mode has the code's spectral norm,
    which iterates v before u, half an iteration from torch's: scores differ by 10 % at the first step, 1e-6 after
    300."""
    vgg_size_px: int = 224
    """Height and width of pictures for VGG-19 in mode `code`."""

    @property
    def needs_weights(self) -> tuple[str, ...]:
        """VGG-19 for the perceptual and the style term."""
        return (_VGG,) if self.perceptual_weight or self.style_weight else ()


def build_deepgin_objective(config: DeepGINObjectiveConfig, weights: Weights) -> Objective:
    """Generator and critics with fresh weights, in a warm-up and an adversarial stage."""
    generator, critic = DeepGIN(config.network), TwoScalePatchCritic(config.critic_width)
    teachers = {name: VGGFeatures(19, tuple(_get_layers(config)), weights[name]) for name in config.needs_weights}
    reconstruct = partial(_compute_reconstruction_terms, hole_weight=config.hole_weight)
    # Phases.
    parts = [reconstruct, partial(_compute_generator_terms, config.mode, critic)]
    parts += [partial(_compute_feature_terms, config, vgg) for vgg in teachers.values()]
    l1_weights = dict.fromkeys(_list_reconstructions(config.network), 1.0)
    warm_up = Phase("reconstruct", ("generator",), reconstruct, l1_weights)
    generate = Phase(
        "generate", ("generator",), partial(_collect_terms, parts), l1_weights | _get_generator_weights(config)
    )
    criticize = Phase("criticise", ("critic",), partial(_compute_critic_terms, critic), {"critic": 0.5})
    # Stages.
    forward = partial(_forward, generator)
    return Objective(
        {"generator": generator, "critic": critic},
        (
            Stage("warm-up", config.warm_up_images, forward, (warm_up,)),
            Stage("adversarial", None, forward, (generate, criticize)),
        ),
        {**teachers},
    )


def _get_generator_weights(config: DeepGINObjectiveConfig) -> dict[str, float]:
    """Weights of Eq. 7 without those of the L1 terms."""
    features = {"perceptual": config.perceptual_weight, "style": config.style_weight}
    return {
        "adversarial": config.adversarial_weight,
        "total_variation": config.total_variation_weight,
        **{name: weight for name, weight in features.items() if weight},
    }


def _get_layers(config: DeepGINObjectiveConfig) -> dict[str, float]:
    return PAPER_LAYERS if config.mode == "paper" else CODE_LAYERS


def _forward(generator: DeepGIN, inputs: Inputs) -> Outputs:
    image, mask, segmentation = inputs.image, inputs.mask, inputs.planes.get("segmentation")
    if generator.config.segmentation and segmentation is None:
        raise ValueError(
            "no plane 'segmentation' in the batch: DeepGIN of track 2 trains with it, name it in the stream's planes"
        )
    outputs: Outputs = generator(image, mask, segmentation)
    return outputs | inputs.to_outputs() | {"masked": image * (1 - mask) + mask}


def _collect_terms(parts: Sequence[Callable[[Outputs], Terms]], o: Outputs) -> Terms:
    return {name: term for part in parts for name, term in part(o).items()}


def _list_reconstructions(config: DeepGINConfig) -> tuple[str, ...]:
    """Names of the L1 terms of a network, one per picture that it makes."""
    if config.coarse_only:
        return ("l1_out",)
    return ("l1_coarse", "l1_low", "l1_out") if config.back_projection else ("l1_coarse", "l1_out")


def _compute_reconstruction_terms(o: Outputs, *, hole_weight: float) -> Terms:
    """L1 of the first guess, of the reduced picture and of the prediction (Eq. 1); the reduced mask is fractional."""
    image, mask, terms = o["image"], o["mask"], {}
    if "coarse" in o:
        terms["l1_coarse"] = hole_weighted_l1(o["coarse"], image, mask, hole_weight)
    if "low" in o:
        small = reduce_to(image, o["low"])
        terms["l1_low"] = hole_weighted_l1(o["low"], small, reduce_to(mask, o["low"]), hole_weight)
    return terms | {"l1_out": hole_weighted_l1(o["predicted"], image, mask, hole_weight)}


def _compute_generator_terms(mode: Mode, critic: TwoScalePatchCritic, o: Outputs) -> Terms:
    variation = total_variation if mode == "paper" else total_variation_l2
    scores = critic(o["masked"], o["inpainted"])
    return {"adversarial": hinge_generator(scores), "total_variation": variation(o["inpainted"])}


def _compute_feature_terms(config: DeepGINObjectiveConfig, vgg: VGGFeatures, o: Outputs) -> Terms:
    """Perceptual and style loss, summed over prediction and inpainted picture (Eq. 4 and 5)."""
    layers, style_loss = _get_layers(config), style_l1 if config.mode == "paper" else style_l2
    with torch.no_grad():
        target = vgg(_resize_for_vgg(config, o["image"]))
    maps = [vgg(_resize_for_vgg(config, o[name])) for name in ("predicted", "inpainted")]
    terms = {}
    if config.perceptual_weight:
        terms["perceptual"] = perceptual(maps[0], target, layers) + perceptual(maps[1], target, layers)
    if config.style_weight:
        terms["style"] = style_loss(maps[0], target, layers) + style_loss(maps[1], target, layers)
    return terms


def _resize_for_vgg(config: DeepGINObjectiveConfig, picture: Tensor) -> Tensor:
    """Resize a picture N3HW as VGG sees it in the config's mode."""
    if config.mode == "paper":
        return picture
    return F.interpolate(picture, size=(config.vgg_size_px,) * 2, mode="bilinear", align_corners=True)


def _compute_critic_terms(critic: TwoScalePatchCritic, o: Outputs) -> Terms:
    real, fake = critic(o["masked"], o["image"]), critic(o["masked"], o["inpainted"].detach())
    return {"critic": hinge_critic(real, fake)}
