"""The learning step of MHTMA: generator and critic in turn, both from one run of the generator (section III-B).

Terms are Eqs. 2-6's: reconstruction of both outputs, perceptual loss on the coarse one, adversarial loss on the final
one. The published text lost their weights; the defaults are ours, for means over pictures in [-1, 1]. The order of the
two updates, and that the critic sees the composited picture, are ours too.
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
"""Of VGG-16, as in partial convolutions (Liu et al., ECCV 2018, Eq. 4); the paper's own are lost."""
_PENALTY: Final = 10.0
"""Weight of the gradient penalty (Gulrajani et al., NIPS 2017, section 4)."""


@dataclass(frozen=True)
class MHTMAObjectiveConfig(LiteralChecked):
    """Sizes and weights of an MHTMA training."""

    network: MHTMAConfig = field(default_factory=MHTMAConfig)
    critic: GlobalLocalCriticConfig = field(default_factory=GlobalLocalCriticConfig)
    adversarial: Literal["hinge", "wgan-gp"] = "hinge"
    """Table II: hinge loss and spectral normalisation, or Wasserstein distance and gradient penalty without it."""
    coarse_weight: float = 1.0
    final_weight: float = 1.0
    """Of the mean absolute errors of both outputs (Eq. 2)."""
    perceptual_weight: float = 0.05
    """Of Eq. 3; 0: no VGG-16 is needed."""
    perceptual_on: Literal["coarse", "final", "both"] = "coarse"
    """The output whose feature maps are compared; the paper's is the coarse one."""
    adversarial_weight: float = 0.01
    warm_up_images: int = 0
    """Ours, for short trainings: clock at which the critic joins in; until then errors alone count."""
    sketch_dropout: float = 0.0
    """Ours: the share of samples whose sketch is taken away, so that the network also fills where nobody drew."""

    @property
    def needs_weights(self) -> tuple[str, ...]:
        """VGG-16, unless no term looks at its maps."""
        return (_VGG,) if self.perceptual_weight else ()


def build_mhtma_objective(config: MHTMAObjectiveConfig, weights: Weights) -> Objective:
    """Generator and critic with fresh weights, VGG-16 with those given; a warm-up only if the config has one."""
    generator = MHTMA(config.network)
    critic = GlobalLocalCritic(config.critic, spectral=config.adversarial == "hinge")
    vgg = VGGFeatures(16, tuple(_LAYERS), weights[_VGG]) if config.perceptual_weight else None
    likeness = partial(_likeness_terms, vgg, config.perceptual_on)
    likeness_weights = {"l1_coarse": config.coarse_weight, "l1_out": config.final_weight}
    likeness_weights |= {"perceptual": config.perceptual_weight} if vgg else {}
    generate = Phase(
        "generate",
        ("generator",),
        lambda o: likeness(o) | {"adversarial": hinge_generator([critic(o["inpainted"], o["corners"])])},
        likeness_weights | {"adversarial": config.adversarial_weight},
    )
    warm_up = Phase("reconstruct", ("generator",), likeness, likeness_weights)
    stages = [Stage("warm-up", config.warm_up_images, partial(_forward, config, generator), (warm_up,))]
    stages += [Stage("adversarial", None, partial(_forward, config, generator), (generate, _criticise(config, critic)))]
    teachers = {"vgg16": vgg} if vgg else {}
    networks = {"generator": generator, "critic": critic}
    return Objective(networks, tuple(stages if config.warm_up_images else stages[1:]), dict(teachers))


def _forward(config: MHTMAObjectiveConfig, generator: MHTMA, inputs: Inputs) -> Outputs:
    image, mask, noise = inputs.image, inputs.mask, inputs.noise
    outputs: Outputs = generator(image, mask, _strokes(config, inputs))
    corners = choose_corners(mask, noise.uniform("local patch", 1), config.critic.local_px)
    blend = {"blend": noise.uniform("blend", 1, 1, 1)} if config.adversarial == "wgan-gp" else {}
    return outputs | inputs.to_outputs() | {"corners": corners} | blend


def _strokes(config: MHTMAObjectiveConfig, inputs: Inputs) -> Tensor | None:
    """The sketch, nothing for some samples; None where the network takes none."""
    if not config.network.sketch:
        return None
    if "sketch" not in inputs.planes:
        raise ValueError("no plane 'sketch' to learn from: name it in the stream's planes, or in drawn to have it made")
    return inputs.planes["sketch"] * (inputs.noise.uniform("strokes", 1, 1, 1) >= config.sketch_dropout)


def _likeness_terms(vgg: VGGFeatures | None, on: str, o: Outputs) -> Terms:
    """Errors of both outputs in [-1, 1] (Eq. 2) and distances of feature maps (Eq. 3)."""
    image = o["image"]
    terms = {"l1_coarse": 2 * F.l1_loss(o["coarse"], image), "l1_out": 2 * F.l1_loss(o["predicted"], image)}
    if vgg is not None:
        with torch.no_grad():
            target = vgg(image)
        seen = {"coarse": ("coarse",), "final": ("predicted",), "both": ("coarse", "predicted")}[on]
        terms["perceptual"] = torch.stack([perceptual(vgg(o[name]), target, _LAYERS) for name in seen]).sum()
    return terms


def _criticise(config: MHTMAObjectiveConfig, critic: GlobalLocalCritic) -> Phase:
    terms: Callable[[Outputs], Terms] = partial(_hinge_terms, critic)
    weights = {"critic": 1.0}
    if config.adversarial == "wgan-gp":
        terms, weights = partial(_wasserstein_terms, critic), weights | {"penalty": _PENALTY}
    return Phase("criticise", ("critic",), terms, weights)


def _hinge_terms(critic: GlobalLocalCritic, o: Outputs) -> Terms:
    """Eq. 4."""
    real, fake = (critic(picture, o["corners"]) for picture in (o["image"], o["inpainted"].detach()))
    return {"critic": hinge_critic([real], [fake])}


def _wasserstein_terms(critic: GlobalLocalCritic, o: Outputs) -> Terms:
    """The critic's loss of WGAN-GP, its penalty at a random point between each picture and its fill."""
    image, fake, blend = o["image"], o["inpainted"].detach(), o["blend"]
    between = (blend * image + (1 - blend) * fake).requires_grad_()
    scores = [critic(picture, o["corners"]) for picture in (image, fake, between)]
    return {"critic": wasserstein_critic(*scores[:2]), "penalty": gradient_penalty(scores[2], between)}
