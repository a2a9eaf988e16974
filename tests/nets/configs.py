"""Smallest configuration of every objective and of each of its variants, and weights for their teachers."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from nets.baselines.edge import ECConfig
from nets.baselines.gated import GCConfig
from nets.baselines.objective import ATTENTION, ENCODER, BaselineObjectiveConfig
from nets.baselines.partial import PCConfig
from nets.distill.guidance import GuidanceConfig
from nets.distill.network import DistillConfig
from nets.distill.objective import VARIANTS, DistillObjectiveConfig, make_variant
from nets.mhtma.critic import GlobalLocalCriticConfig
from nets.mhtma.network import MHTMAConfig
from nets.mhtma.objective import MHTMAObjectiveConfig
from nets.spn.network import SPN, SPLConfig, SPNConfig
from nets.spn.objective import SPNObjectiveConfig
from nets.spn.targets import MapsTarget, PriorTarget, TResNetTarget
from tests.making import train_recipe
from tests.weights import random_network, random_tresnet, random_vgg

_DEEPGIN = train_recipe().objective
_ALL_LOSSES = replace(_DEEPGIN, perceptual_weight=0.05, style_weight=80.0)
SMALL_MHTMA = MHTMAObjectiveConfig(
    MHTMAConfig(8, dilations=(2,)), GlobalLocalCriticConfig(32, 16, width=4, num_global=2, num_local=2, num_features=32)
)
TINY_SPN = SPNConfig(width=4, spade_width=4, num_spade_blocks=1, num_dense_blocks=1, num_dense_layers=1, growth=4)
TINY_SPL = SPLConfig(width=4, spade_width=4, num_spade_blocks=1, num_dense_blocks=1, num_dense_layers=1, growth=4)
RANDOM_TRESNET = TResNetTarget(weights=None, width=4)
SMALL_DISTILL = DistillObjectiveConfig(
    DistillConfig(8, 6, (1, 1, 1), 1), GuidanceConfig(auxiliary_images=16), style_weight=0.0, confidence_px=9
)


def _change_network(of: Any, **changes: Any) -> Any:
    """Change fields of the network of an objective's config."""
    return replace(of, network=replace(of.network, **changes))


def _shorten(guidance: GuidanceConfig) -> GuidanceConfig:
    return replace(guidance, auxiliary_images=16)


DEEPGIN = {
    "deepgin": _DEEPGIN,
    "deepgin-all-losses": _ALL_LOSSES,
    "deepgin-code": replace(_ALL_LOSSES, mode="code", vgg_size_px=32),
    "deepgin-coarse-only": _change_network(_DEEPGIN, block="standard", coarse_only=True),
    "deepgin-standard": _change_network(_DEEPGIN, block="standard", attention="none", back_projection=False),
    "deepgin-single": _change_network(_DEEPGIN, block="dilated", attention="single", back_projection=False),
    "deepgin-segmentation": _change_network(_DEEPGIN, segmentation=True, checkpointing=True),
}
MHTMAS = {
    "mhtma": SMALL_MHTMA,
    "mhtma-atma": _change_network(replace(SMALL_MHTMA, perceptual_on="both"), attention="atma"),
    "mhtma-contextual": _change_network(SMALL_MHTMA, attention="contextual"),
    "mhtma-wgan": replace(SMALL_MHTMA, adversarial="wgan-gp", perceptual_on="final"),
    "mhtma-sketch": _change_network(
        replace(SMALL_MHTMA, perceptual_weight=0.0, warm_up_images=16), sketch=True, residual=True
    ),
}
DISTILLATIONS = {
    "distill": replace(SMALL_DISTILL, style_weight=150.0, blur="paper"),
    "distill-residual": replace(
        SMALL_DISTILL,
        network=replace(SMALL_DISTILL.network, residual=True, additive_fusion=False, key_pooling=(0, 2, 1)),
    ),
    "gc": BaselineObjectiveConfig(GCConfig(4, (2,), residual=True)),
    "gc*": BaselineObjectiveConfig(GCConfig(4, (2,), completion=True), _shorten(ENCODER)),
    "gc-dagger": BaselineObjectiveConfig(GCConfig(4, (2,)), _shorten(ATTENTION)),
    "ec": BaselineObjectiveConfig(ECConfig(4, 1, residual=True)),
    "ec*": BaselineObjectiveConfig(ECConfig(4, 1, completion=True), _shorten(ENCODER)),
    "ec#": BaselineObjectiveConfig(ECConfig(4, 1, edges=False, completion=True, residual=True), _shorten(ENCODER)),
    "pc": BaselineObjectiveConfig(PCConfig((4, 8, 8), (5, 3, 3), residual=True)),
    "pc*": BaselineObjectiveConfig(PCConfig((4, 8, 8), (5, 3, 3), completion=True), _shorten(ENCODER)),
    **{f"distill-{name}": make_variant(name, SMALL_DISTILL) for name in VARIANTS},
}
SPNS = {
    "spn": SPNObjectiveConfig(TINY_SPN, RANDOM_TRESNET, critic_width=4, prior_until_images=16),
    "spn-probabilistic": SPNObjectiveConfig(
        replace(TINY_SPN, probabilistic=True), RANDOM_TRESNET, critic_width=4, prior_until_images=16
    ),
    "spn-without-pretext": SPNObjectiveConfig(replace(TINY_SPN, fusion="concatenation"), None, critic_width=4),
    "spn-one-scale": SPNObjectiveConfig(
        replace(TINY_SPN, num_scales=1, residual=True), PriorTarget("spn", TINY_SPN), critic_width=4
    ),
    "spl": SPNObjectiveConfig(TINY_SPL, MapsTarget(), critic_width=4),
}
CONFIGS: dict[str, Any] = DEEPGIN | MHTMAS | SPNS | DISTILLATIONS
"""By name of the paper and variant; each kind of objective at least once."""
WEIGHTS: dict[str, dict[str, Tensor]] = {
    "spn": random_network(SPN(TINY_SPN)),
    "tresnet_l_openimages": random_tresnet(),
    "vgg16_features": random_vgg(16),
    "vgg19_features": random_vgg(19),
}
"""Random state dicts of the right shapes, for objectives that need teachers."""
