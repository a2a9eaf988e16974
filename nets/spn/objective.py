"""The learning step of SPN and SPL: a critic, then prior learner and image generator as one (section 3.3).

The critic's update comes first, both from one run of the generator. While priors are distilled the heads are trained
with the generator; after `prior_until_images` the maps of the teacher have no say any more. The probabilistic network
draws two samples for each picture, laid one after another; image and mask stay single and are repeated by the terms.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

import torch
from torch import nn
from torch.nn import functional as F

from nets.features import VGGFeatures
from nets.layers.precision import disable_autocast
from nets.literals import LiteralChecked
from nets.losses import (
    cross_entropy_critic,
    cross_entropy_generator,
    feature_matching,
    gaussian_divergence,
    hinge_critic,
    hinge_generator,
    hole_weighted_l1,
    perceptual,
    perceptual_diversity,
)
from nets.objective import Inputs, Objective, Outputs, Phase, Stage, Terms, Weights
from nets.spn.critics import MatchingCritic, PatchCritic
from nets.spn.network import SPL, SPN, SPLConfig, SPNConfig
from nets.spn.prior import DistillationHeads, repeat_samples
from nets.spn.targets import Target, TResNetTarget

_VGG_FILE: Final = "vgg19_features"
_VGG_WEIGHTS: Final = {
    "paper": {f"relu{k}_1": 1 / 5 for k in range(1, 6)},
    "code": {"relu1_1": 1 / 32, "relu2_1": 1 / 16, "relu3_1": 1 / 8, "relu4_1": 1 / 4, "relu5_1": 1.0},
}
_HOLE_EMPHASIS: Final = {"paper": 4.0, "code": 2.0}

Part = tuple[Callable[[Outputs], Terms], Mapping[str, float]]
"""Some terms of a phase and their weights."""


@dataclass(frozen=True)
class SPNObjectiveConfig(LiteralChecked):
    """Sizes and weights of a training of SPN or SPL; the defaults are the paper's."""

    network: SPNConfig | SPLConfig = field(default_factory=SPNConfig)
    target: Target | None = field(default_factory=TResNetTarget)
    """What priors are distilled from; nothing is "w/o ASL" of Fig. 7."""
    critic_width: int = 64
    prior_until_images: int | None = None
    """Clock at which the distillation ends; the code: 10 or 15 epochs before the end on Paris, and of a
    probabilistic one after 60 on all datasets. Never in the paper."""
    mode: Literal["paper", "code"] = "paper"
    """Where they differ. Errors in the hole weigh 1 + 4 in the paper, 1 + 2 in the code (Eq. 10). The perceptual loss
    is a plain mean over layers, or weighs them 1/32, 1/16, 1/8, 1/4, 1 (Eq. 13). The diversity loss is a mean of
    inverted norms, or the inverse of a sum of mean distances per hole pixel (Eq. 14). The divergence is that of the
    posterior from the normal distribution, or the other way round (Eq. 6). Published checkpoints were made by the
    code."""
    prior_emphasis: float = 3.0
    """alpha of Eq. 4: errors in the hole weigh 1 + alpha."""
    prior_weight: float = 1.0
    image_weight: float = 10.0
    """lambda 1."""
    adversarial_weight: float = 1.0
    """lambda 2."""
    feature_matching_weight: float = 10.0
    """lambda 3, first part; this and all below of the probabilistic network alone."""
    perceptual_weight: float = 10.0
    """lambda 3, second part."""
    diversity_weight: float = 1.0
    """lambda 4."""
    divergence_weight: float = 0.05
    """lambda 5."""

    @property
    def probabilistic(self) -> bool:
        """Whether priors are drawn."""
        return isinstance(self.network, SPNConfig) and self.network.probabilistic

    @property
    def num_scales(self) -> int:
        """Priors that are distilled."""
        return self.network.num_scales if isinstance(self.network, SPNConfig) else 1

    @property
    def has_feature_terms(self) -> bool:
        """Whether VGG-19 is needed."""
        return self.probabilistic and (self.perceptual_weight > 0 or self.diversity_weight > 0)

    @property
    def needs_weights(self) -> tuple[str, ...]:
        """The target's files, and VGG-19 where features are compared."""
        files = () if self.target is None else self.target.needs_weights
        return files + ((_VGG_FILE,) if self.has_feature_terms else ())


def build_spn_objective(config: SPNObjectiveConfig, weights: Weights) -> Objective:
    """Generator, heads and critic with fresh weights; a stage with and, where the clock says so, one without priors."""
    network = config.network
    generator = SPN(network) if isinstance(network, SPNConfig) else SPL(network)
    critic, parts, criticise = _adversaries(config)
    parts.append((partial(_image_terms, emphasis=_HOLE_EMPHASIS[config.mode]), {"image": config.image_weight}))
    networks: dict[str, nn.Module] = {"generator": generator, "critic": critic}
    teachers: dict[str, nn.Module] = {}
    if config.has_feature_terms:
        teachers["features"] = VGGFeatures(19, list(_VGG_WEIGHTS["code"]), weights[_VGG_FILE], normalise=False)
        parts.append(_feature_part(config, teachers["features"]))
    forward = partial(_forward, generator)
    last = Stage("adversarial", None, forward, (criticise, _generate(("generator",), parts)))
    if config.target is None:
        return Objective(networks, (last,), teachers)
    teachers["target"] = config.target.build(weights)
    networks["heads"] = heads = DistillationHeads(network.width, config.target.channels[: config.num_scales])
    distil = partial(_distil, forward, heads, teachers["target"])
    both = _generate(("generator", "heads"), [*parts, _prior_part(config)])
    until = config.prior_until_images
    distillation = Stage("distillation", until, distil, (criticise, both))
    return Objective(networks, (distillation,) if until is None else (distillation, last), teachers)


def _generate(trains: tuple[str, ...], parts: list[Part]) -> Phase:
    """The generator's phase of these parts."""

    def terms(o: Outputs) -> Terms:
        return {name: term for make, _ in parts for name, term in make(o).items()}

    return Phase("generate", trains, terms, {name: weight for _, own in parts for name, weight in own.items()})


def _adversaries(config: SPNObjectiveConfig) -> tuple[nn.Module, list[Part], Phase]:
    """Critic, what the generator has of it, and its own phase."""
    if not config.probabilistic:
        patch = PatchCritic(config.critic_width)
        criticise = Phase("criticise", ("critic",), partial(_patch_critic_terms, patch), {"critic": 0.5})
        return patch, [(partial(_patch_terms, patch), {"adversarial": config.adversarial_weight})], criticise
    matching = MatchingCritic(config.critic_width)
    criticise = Phase("criticise", ("critic",), partial(_matching_critic_terms, matching), {"critic": 0.5})
    weights = {"adversarial": config.adversarial_weight, "feature_matching": config.feature_matching_weight}
    posterior = (partial(_posterior_terms, mode=config.mode), {"divergence": config.divergence_weight})
    return matching, [(partial(_matching_terms, matching), weights), posterior], criticise


def _feature_part(config: SPNObjectiveConfig, features: nn.Module) -> Part:
    weights = {"perceptual": config.perceptual_weight, "diversity": config.diversity_weight}
    return partial(_feature_terms, features, mode=config.mode), weights


def _prior_part(config: SPNObjectiveConfig) -> Part:
    scales = [f"prior_{3 - depth}" for depth in range(config.num_scales)]
    terms = partial(_prior_terms, scales=scales, emphasis=config.prior_emphasis)
    return terms, dict.fromkeys(scales, config.prior_weight)


def _forward(generator: SPN | SPL, inputs: Inputs) -> Outputs:
    """The generator's outputs, of two samples for each picture where priors are drawn."""
    if isinstance(generator, SPN) and generator.probabilistic:
        shape = generator.get_noise_shape(inputs.image)
        noise = torch.cat([inputs.noise.normal(f"prior-{sample}", *shape) for sample in range(2)])
        outputs: Outputs = generator(inputs.image, inputs.mask, noise)
    else:
        outputs = generator(inputs.image, inputs.mask)
    return outputs | inputs.to_outputs()


def _distil(
    forward: Callable[[Inputs], Outputs], heads: DistillationHeads, target: nn.Module, inputs: Inputs
) -> Outputs:
    """The same, and for each scale what its head says and what the target is."""
    outputs = forward(inputs)
    with torch.no_grad():
        maps = target(inputs)
    scales = [scale for scale in ("prior_3", "prior_2", "prior_1") if scale in outputs]
    told = heads([outputs[scale] for scale in scales])
    pairs = zip(scales, told, maps, strict=False)  # fewer priors than maps
    return outputs | {f"{what}_{s}": x for s, *both in pairs for what, x in zip(("told", "target"), both, strict=True)}


def _prior_terms(o: Outputs, *, scales: list[str], emphasis: float) -> Terms:
    """Eq. 4 at each scale; a target of another size is resized to the prior's, nearest neighbours."""
    terms = {}
    for scale in scales:
        told = o[f"told_{scale}"]
        target, mask = (
            repeat_samples(F.interpolate(x, size=told.shape[2:], mode="nearest"), told)
            for x in (o[f"target_{scale}"], o["mask"])
        )
        terms[scale] = hole_weighted_l1(told, target, mask, 1 + emphasis)
    return terms


def _image_terms(o: Outputs, *, emphasis: float) -> Terms:
    """Eq. 10."""
    predicted = o["predicted"]
    image, mask = repeat_samples(o["image"], predicted), repeat_samples(o["mask"], predicted)
    return {"image": hole_weighted_l1(predicted, image, mask, 1 + emphasis)}


def _patch_terms(critic: PatchCritic, o: Outputs) -> Terms:
    return {"adversarial": cross_entropy_generator(critic(o["predicted"]))}


def _patch_critic_terms(critic: PatchCritic, o: Outputs) -> Terms:
    return {"critic": cross_entropy_critic(critic(o["image"]), critic(o["predicted"].detach()))}


def _matching_terms(critic: MatchingCritic, o: Outputs) -> Terms:
    """Hinge, and the first part of Eq. 13; features of the real picture are constants."""
    scores, features = critic(o["predicted"])
    with torch.no_grad():
        _, real = critic(o["image"])
    target = [repeat_samples(r, f) for r, f in zip(real, features, strict=True)]
    return {"adversarial": hinge_generator([scores]), "feature_matching": feature_matching(features, target)}


def _matching_critic_terms(critic: MatchingCritic, o: Outputs) -> Terms:
    (real, _), (fake, _) = critic(o["image"]), critic(o["predicted"].detach())
    return {"critic": hinge_critic([real], [fake])}


def _posterior_terms(o: Outputs, *, mode: Literal["paper", "code"]) -> Terms:
    """Eq. 6."""
    return {"divergence": gaussian_divergence(o["mean"], o["deviation"], mode)}


def _feature_terms(features: nn.Module, o: Outputs, *, mode: Literal["paper", "code"]) -> Terms:
    """The second part of Eq. 13, and Eq. 14 of the two samples, in float32.

    Eq. 14 divides by how far the samples' features are apart: rounded ones are never near, and nothing is learned.
    """
    with disable_autocast(o["predicted"]):
        return _compared(features, o, mode)


def _compared(features: nn.Module, o: Outputs, mode: Literal["paper", "code"]) -> Terms:
    maps = features(o["predicted"])
    with torch.no_grad():
        real = {name: repeat_samples(r, maps[name]) for name, r in features(o["image"]).items()}
    first, second = ({name: m.chunk(2)[sample] for name, m in maps.items()} for sample in range(2))
    return {
        "perceptual": perceptual(maps, real, _VGG_WEIGHTS[mode]),
        "diversity": perceptual_diversity(first, second, o["mask"], mode),
    }
