"""The learning step of MHTMA: generator and critic in turn, both from one run of the generator (section III-B).

Terms are those of Eqs. 2-6: reconstruction of both outputs, perceptual loss of the coarse one, adversarial loss of the
final one. The published text lost their weights: the defaults are ours, for means over pictures in [-1, 1]. The order
of the two updates and the composited picture as the critic's input are ours too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from nets.features import VGGFeatures
from nets.literals import LiteralChecked
from nets.losses import gradient_penalty, hinge_critic, hinge_generator, perceptual, wasserstein_critic
from nets.mhtma.critic import GlobalLocalCritic, GlobalLocalCriticConfig, choose_corners
from nets.mhtma.network import MHTMA, MHTMAConfig
from nets.objective import Inputs, Objective, Outputs, Phase, Stage, Terms, Weights

_VGG: Final = "vgg16_features"
_LAYERS: Final = {"pool1": 1.0, "pool2": 1.0, "pool3": 1.0}
"""Layers of VGG-16, as in partial convolutions (Liu et al., ECCV 2018, Eq. 4); the paper's own are lost."""
_PENALTY: Final = 10.0
"""Weight of the gradient penalty (Gulrajani et al., NIPS 2017, section 4)."""


@dataclass(frozen=True)
class MHTMAObjectiveConfig(LiteralChecked):
    """Sizes and weights of an MHTMA training."""

    network: MHTMAConfig = field(default_factory=MHTMAConfig)
    critic: GlobalLocalCriticConfig = field(default_factory=GlobalLocalCriticConfig)
    adversarial: Literal["hinge", "wgan-gp"] = "hinge"
    """Table II: hinge loss and spectral normalization, or Wasserstein distance and gradient penalty without it."""
    coarse_weight: float = 1.0
    final_weight: float = 1.0
    """Weights of the mean absolute errors of both outputs (Eq. 2)."""
    perceptual_weight: float = 0.05
    """Weight of Eq. 3; 0: no VGG-16 is needed."""
    perceptual_on: Literal["coarse", "final", "both"] = "coarse"
    """Output whose feature maps are compared; the paper's is the coarse one."""
    adversarial_weight: float = 0.01
    warm_up_images: int = 0
    """Ours, for short trainings: images seen when the critic joins; until then only errors count."""
    sketch_dropout: float = 0.0
    """Ours: share of samples without their sketch, so that the network also learns to fill without strokes."""

    @property
    def needs_weights(self) -> tuple[str, ...]:
        """VGG-16, unless no term uses its maps."""
        return (_VGG,) if self.perceptual_weight else ()


def build_mhtma_objective(config: MHTMAObjectiveConfig, weights: Weights) -> Objective:
    """Generator and critic with fresh weights, VGG-16 with the given ones; a warm-up only if the config has one."""
    generator = MHTMA(config.network)
    critic = GlobalLocalCritic(config.critic, spectral=config.adversarial == "hinge")
    vgg = VGGFeatures(16, tuple(_LAYERS), weights[_VGG]) if config.perceptual_weight else None
    compute_errors = partial(_compute_error_terms, vgg, config.perceptual_on)
    error_weights = {"l1_coarse": config.coarse_weight, "l1_out": config.final_weight}
    error_weights |= {"perceptual": config.perceptual_weight} if vgg else {}
    # Phases and stages.
    generate = Phase(
        "generate",
        ("generator",),
        lambda o: compute_errors(o) | {"adversarial": hinge_generator([critic(o["inpainted"], o["corners"])])},
        error_weights | {"adversarial": config.adversarial_weight},
    )
    warm_up = Phase("reconstruct", ("generator",), compute_errors, error_weights)
    stages = [Stage("warm-up", config.warm_up_images, partial(_forward, config, generator), (warm_up,))]
    stages += [
        Stage(
            "adversarial", None, partial(_forward, config, generator), (generate, _build_critic_phase(config, critic))
        )
    ]
    teachers = {"vgg16": vgg} if vgg else {}
    networks = {"generator": generator, "critic": critic}
    return Objective(networks, tuple(stages if config.warm_up_images else stages[1:]), dict(teachers))


def _forward(config: MHTMAObjectiveConfig, generator: MHTMA, inputs: Inputs) -> Outputs:
    image, mask, noise = inputs.image, inputs.mask, inputs.noise
    outputs: Outputs = generator(image, mask, _get_strokes(config, inputs))
    corners = choose_corners(mask, noise.uniform("local patch", 1), config.critic.local_px)
    blend = {"blend": noise.uniform("blend", 1, 1, 1)} if config.adversarial == "wgan-gp" else {}
    return outputs | inputs.to_outputs() | {"corners": corners} | blend


def _get_strokes(config: MHTMAObjectiveConfig, inputs: Inputs) -> Tensor | None:
    """Sketch, empty for some samples, or None if the network takes none."""
    if not config.network.sketch:
        return None
    if "sketch" not in inputs.planes:
        raise ValueError(
            "no plane 'sketch' in the batch: name it in the stream's planes, or in sketch_planes to draw it"
        )
    return inputs.planes["sketch"] * (inputs.noise.uniform("strokes", 1, 1, 1) >= config.sketch_dropout)


def _compute_error_terms(vgg: VGGFeatures | None, on: str, o: Outputs) -> Terms:
    """Errors of both outputs in [-1, 1] (Eq. 2) and distances of feature maps (Eq. 3)."""
    image = o["image"]
    terms = {"l1_coarse": 2 * F.l1_loss(o["coarse"], image), "l1_out": 2 * F.l1_loss(o["predicted"], image)}
    if vgg is not None:
        with torch.no_grad():
            target = vgg(image)
        names = {"coarse": ("coarse",), "final": ("predicted",), "both": ("coarse", "predicted")}[on]
        terms["perceptual"] = torch.stack([perceptual(vgg(o[name]), target, _LAYERS) for name in names]).sum()
    return terms


def _build_critic_phase(config: MHTMAObjectiveConfig, critic: GlobalLocalCritic) -> Phase:
    terms: Callable[[Outputs], Terms] = partial(_compute_hinge_terms, critic)
    weights = {"critic": 1.0}
    if config.adversarial == "wgan-gp":
        terms, weights = partial(_compute_wasserstein_terms, critic), weights | {"penalty": _PENALTY}
    return Phase("criticise", ("critic",), terms, weights)


def _compute_hinge_terms(critic: GlobalLocalCritic, o: Outputs) -> Terms:
    """Hinge loss of the critic (Eq. 4)."""
    real, fake = (critic(picture, o["corners"]) for picture in (o["image"], o["inpainted"].detach()))
    return {"critic": hinge_critic([real], [fake])}


def _compute_wasserstein_terms(critic: GlobalLocalCritic, o: Outputs) -> Terms:
    """Loss of the critic of WGAN-GP, with its penalty at a random point between each picture and its fill."""
    image, fake, blend = o["image"], o["inpainted"].detach(), o["blend"]
    between = (blend * image + (1 - blend) * fake).requires_grad_()
    scores = [critic(picture, o["corners"]) for picture in (image, fake, between)]
    return {"critic": wasserstein_critic(*scores[:2]), "penalty": gradient_penalty(scores[2], between)}
