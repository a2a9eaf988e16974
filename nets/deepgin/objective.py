"""The learning step of DeepGIN: an L1 warm-up of the generator, then generator and critics in turn (section 3.5, 4.2).

Terms and weights are Eq. 7's; the generator's update comes before the critics', both from one run of the generator,
as in the authors' code. The perceptual and the style term need VGG-19 features and are not part of this objective yet.
"""

from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from nets.critics import TwoScalePatchCritic
from nets.deepgin.network import DeepGIN, DeepGINConfig, reduce_to
from nets.losses import hinge_critic, hinge_generator, hole_weighted_l1, total_variation
from nets.objective import Inputs, Objective, Outputs, Phase, Stage, Weights


@dataclass(frozen=True)
class DeepGINObjectiveConfig:
    """Sizes and weights of a DeepGIN training; the defaults are the paper's."""

    network: DeepGINConfig = field(default_factory=DeepGINConfig)
    critic_width: int = 64
    warm_up_images: int = 100_000
    """Clock at which the critics join in; the paper: 10 epochs."""
    hole_weight: float = 5.0
    adversarial_weight: float = 0.001
    total_variation_weight: float = 0.1

    @property
    def needs_weights(self) -> tuple[str, ...]:
        """No files of weights."""
        return ()


def deepgin_objective(config: DeepGINObjectiveConfig, _: Weights) -> Objective:
    """Generator and critics with fresh weights, warm-up and adversarial stage."""
    generator, critic = DeepGIN(config.network), TwoScalePatchCritic(config.critic_width)
    l1_terms = partial(_reconstruction_terms, hole_weight=config.hole_weight)
    l1_weights = {"l1_coarse": 1.0, "l1_low": 1.0, "l1_out": 1.0}
    warm_up = Phase("reconstruct", ("generator",), l1_terms, l1_weights)
    generate = Phase(
        "generate",
        ("generator",),
        lambda o: l1_terms(o) | _generator_terms(critic, o),
        l1_weights | {"adversarial": config.adversarial_weight, "total_variation": config.total_variation_weight},
    )
    criticise = Phase("criticise", ("critic",), partial(_critic_terms, critic), {"critic": 0.5})
    forward = partial(_forward, generator)
    return Objective(
        {"generator": generator, "critic": critic},
        (
            Stage("warm-up", config.warm_up_images, forward, (warm_up,)),
            Stage("adversarial", None, forward, (generate, criticise)),
        ),
    )


def _forward(generator: DeepGIN, inputs: Inputs) -> Outputs:
    image, mask = inputs.image, inputs.mask
    outputs: Outputs = generator(image, mask)
    return outputs | inputs.as_outputs() | {"masked": image * (1 - mask) + mask}


def _reconstruction_terms(o: Outputs, *, hole_weight: float) -> dict[str, Tensor]:
    """L1 on the first guess, on the reduced picture and on the prediction (Eq. 1); the reduced mask is fractional."""
    image, mask = o["image"], o["mask"]
    low = hole_weighted_l1(o["low"], reduce_to(image, o["low"]), reduce_to(mask, o["low"]), hole_weight)
    return {
        "l1_coarse": hole_weighted_l1(o["coarse"], image, mask, hole_weight),
        "l1_low": low,
        "l1_out": hole_weighted_l1(o["predicted"], image, mask, hole_weight),
    }


def _generator_terms(critic: TwoScalePatchCritic, o: Outputs) -> dict[str, Tensor]:
    scores = critic(o["masked"], o["inpainted"])
    return {"adversarial": hinge_generator(scores), "total_variation": total_variation(o["inpainted"])}


def _critic_terms(critic: TwoScalePatchCritic, o: Outputs) -> dict[str, Tensor]:
    real, fake = critic(o["masked"], o["image"]), critic(o["masked"], o["inpainted"].detach())
    return {"critic": hinge_critic(real, fake)}
