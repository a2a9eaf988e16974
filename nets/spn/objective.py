"""The learning step of SPN and SPL: a critic, then prior learner and image generator as one (section 3.3).

The critic's update comes first, both from one run of the generator. While priors are distilled the heads are trained
with the generator; after `prior_until_images` the teacher's maps are not used. The probabilistic network draws two
samples for each picture, one batch after the other; image and mask stay single, and the terms repeat them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import torch
from torch import nn
from torch.nn import functional as F

from nets.features import VGGFeatures
from nets.layers.precision import disable_autocast
from nets.literals import LiteralChecked
from nets.losses import (
    Mode,
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
    """Source of the distilled priors; None is "w/o ASL" of Fig. 7."""
    critic_width: int = 64
    prior_until_images: int | None = None
    """Images seen when the distillation ends. In the code: 10 or 15 epochs before the end on Paris, and for the
    probabilistic network after 60 on all datasets. In the paper: never."""
    mode: Mode = "paper"
    """Source where they differ. Errors in the hole weigh 1 + 4 in the paper, 1 + 2 in the code (Eq. 10). The perceptual
    loss is a plain mean over layers, or weighs them 1/32, 1/16, 1/8, 1/4, 1 (Eq. 13). The diversity loss is a mean of
    inverted norms, or the inverse of a sum of mean distances per hole pixel (Eq. 14). The divergence is that of the
    posterior from the normal distribution, or of the normal distribution from the posterior (Eq. 6). Published
    checkpoints come from the code."""
    prior_emphasis: float = 3.0
    """alpha of Eq. 4: errors in the hole weigh 1 + alpha."""
    prior_weight: float = 1.0
    image_weight: float = 10.0
    """lambda 1."""
    adversarial_weight: float = 1.0
    """lambda 2."""
    feature_matching_weight: float = 10.0
    """lambda 3, first part; this and all below are for the probabilistic network only."""
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
        """Number of distilled priors."""
        return self.network.num_scales if isinstance(self.network, SPNConfig) else 1

    @property
    def has_feature_terms(self) -> bool:
        """Whether VGG-19 is needed."""
        return self.probabilistic and (self.perceptual_weight > 0 or self.diversity_weight > 0)

    @property
    def needs_weights(self) -> tuple[str, ...]:
        """Files of the target, and VGG-19 if features are compared."""
        files = () if self.target is None else self.target.needs_weights
        return files + ((_VGG_FILE,) if self.has_feature_terms else ())


def build_spn_objective(config: SPNObjectiveConfig, weights: Weights) -> Objective:
    """Generator, heads and critic with fresh weights; a stage with priors and, if the clock is set, one without."""
    network = config.network
    generator = SPN(network) if isinstance(network, SPNConfig) else SPL(network)
    critic, parts, criticize = _build_adversaries(config)
    parts.append((partial(_compute_image_terms, emphasis=_HOLE_EMPHASIS[config.mode]), {"image": config.image_weight}))
    # Networks and teachers.
    networks: dict[str, nn.Module] = {"generator": generator, "critic": critic}
    teachers: dict[str, nn.Module] = {}
    if config.has_feature_terms:
        teachers["features"] = VGGFeatures(19, list(_VGG_WEIGHTS["code"]), weights[_VGG_FILE], normalize=False)
        feature_weights = {"perceptual": config.perceptual_weight, "diversity": config.diversity_weight}
        parts.append((partial(_compute_feature_terms, teachers["features"], mode=config.mode), feature_weights))
    forward = partial(_forward, generator)
    last = Stage("adversarial", None, forward, (criticize, _build_generate_phase(("generator",), parts)))
    if config.target is None:
        return Objective(networks, (last,), teachers)
    teachers["target"] = config.target.build(weights)
    networks["heads"] = heads = DistillationHeads(network.width, config.target.channels[: config.num_scales])
    # A stage that distills priors before the last one.
    distill = partial(_forward_distilling, forward, heads, teachers["target"])
    both = _build_generate_phase(("generator", "heads"), [*parts, _build_prior_part(config)])
    until = config.prior_until_images
    distillation = Stage("distillation", until, distill, (criticize, both))
    return Objective(networks, (distillation,) if until is None else (distillation, last), teachers)


def _build_generate_phase(trains: tuple[str, ...], parts: list[Part]) -> Phase:
    """Build the generator's phase from parts."""

    def terms(o: Outputs) -> Terms:
        return {name: term for make, _ in parts for name, term in make(o).items()}

    return Phase("generate", trains, terms, {name: weight for _, own in parts for name, weight in own.items()})


def _build_adversaries(config: SPNObjectiveConfig) -> tuple[nn.Module, list[Part], Phase]:
    """Build the critic, the generator's parts with it, and its own phase."""
    if not config.probabilistic:
        patch = PatchCritic(config.critic_width)
        criticize = Phase("criticise", ("critic",), partial(_compute_patch_critic_terms, patch), {"critic": 0.5})
        return patch, [(partial(_compute_patch_terms, patch), {"adversarial": config.adversarial_weight})], criticize
    matching = MatchingCritic(config.critic_width)
    criticize = Phase("criticise", ("critic",), partial(_compute_matching_critic_terms, matching), {"critic": 0.5})
    weights = {"adversarial": config.adversarial_weight, "feature_matching": config.feature_matching_weight}
    posterior = (partial(_compute_posterior_terms, mode=config.mode), {"divergence": config.divergence_weight})
    return matching, [(partial(_compute_matching_terms, matching), weights), posterior], criticize


def _build_prior_part(config: SPNObjectiveConfig) -> Part:
    scales = [f"prior_{3 - depth}" for depth in range(config.num_scales)]
    terms = partial(_compute_prior_terms, scales=scales, emphasis=config.prior_emphasis)
    return terms, dict.fromkeys(scales, config.prior_weight)


def _forward(generator: SPN | SPL, inputs: Inputs) -> Outputs:
    """Outputs of the generator, of two samples for each picture if priors are drawn."""
    if isinstance(generator, SPN) and generator.probabilistic:
        shape = generator.get_noise_shape(inputs.image)
        noise = torch.cat([inputs.noise.normal(f"prior-{sample}", *shape) for sample in range(2)])
        outputs: Outputs = generator(inputs.image, inputs.mask, noise)
    else:
        outputs = generator(inputs.image, inputs.mask)
    return outputs | inputs.to_outputs()


def _forward_distilling(
    forward: Callable[[Inputs], Outputs], heads: DistillationHeads, target: nn.Module, inputs: Inputs
) -> Outputs:
    """Outputs of the generator and, for each scale, the mapped prior and the target."""
    outputs = forward(inputs)
    with torch.no_grad():
        maps = target(inputs)
    scales = [scale for scale in ("prior_3", "prior_2", "prior_1") if scale in outputs]
    mapped = heads([outputs[scale] for scale in scales])
    pairs = zip(scales, mapped, maps, strict=False)  # there may be fewer priors than maps
    return outputs | {
        f"{kind}_{s}": x for s, *both in pairs for kind, x in zip(("mapped", "target"), both, strict=True)
    }


def _compute_prior_terms(o: Outputs, *, scales: list[str], emphasis: float) -> Terms:
    """Prior loss at each scale (Eq. 4); targets are resized to the prior's size by nearest neighbors."""
    terms = {}
    for scale in scales:
        mapped = o[f"mapped_{scale}"]
        target, mask = (
            repeat_samples(F.interpolate(x, size=mapped.shape[2:], mode="nearest"), mapped)
            for x in (o[f"target_{scale}"], o["mask"])
        )
        terms[scale] = hole_weighted_l1(mapped, target, mask, 1 + emphasis)
    return terms


def _compute_image_terms(o: Outputs, *, emphasis: float) -> Terms:
    """Image loss (Eq. 10)."""
    predicted = o["predicted"]
    image, mask = repeat_samples(o["image"], predicted), repeat_samples(o["mask"], predicted)
    return {"image": hole_weighted_l1(predicted, image, mask, 1 + emphasis)}


def _compute_patch_terms(critic: PatchCritic, o: Outputs) -> Terms:
    return {"adversarial": cross_entropy_generator(critic(o["predicted"]))}


def _compute_patch_critic_terms(critic: PatchCritic, o: Outputs) -> Terms:
    return {"critic": cross_entropy_critic(critic(o["image"]), critic(o["predicted"].detach()))}


def _compute_matching_terms(critic: MatchingCritic, o: Outputs) -> Terms:
    """Hinge loss and the first part of Eq. 13; features of the real picture are constants."""
    scores, features = critic(o["predicted"])
    with torch.no_grad():
        _, real = critic(o["image"])
    target = [repeat_samples(r, f) for r, f in zip(real, features, strict=True)]
    return {"adversarial": hinge_generator([scores]), "feature_matching": feature_matching(features, target)}


def _compute_matching_critic_terms(critic: MatchingCritic, o: Outputs) -> Terms:
    (real, _), (fake, _) = critic(o["image"]), critic(o["predicted"].detach())
    return {"critic": hinge_critic([real], [fake])}


def _compute_posterior_terms(o: Outputs, *, mode: Mode) -> Terms:
    """Divergence of the posterior (Eq. 6)."""
    return {"divergence": gaussian_divergence(o["mean"], o["deviation"], mode)}


def _compute_feature_terms(features: nn.Module, o: Outputs, *, mode: Mode) -> Terms:
    """Perceptual loss, the second part of Eq. 13, and diversity of the two samples (Eq. 14), in float32.

    Eq. 14 divides by the distance of the samples' features: rounded features are never near, and nothing is learned.
    """
    with disable_autocast(o["predicted"]):
        maps = features(o["predicted"])
        with torch.no_grad():
            real = {name: repeat_samples(r, maps[name]) for name, r in features(o["image"]).items()}
        first, second = ({name: m.chunk(2)[sample] for name, m in maps.items()} for sample in range(2))
        return {
            "perceptual": perceptual(maps, real, _VGG_WEIGHTS[mode]),
            "diversity": perceptual_diversity(first, second, o["mask"], mode),
        }
