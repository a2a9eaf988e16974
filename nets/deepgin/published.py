"""The authors' published checkpoints of DeepGIN (`latest_net_G.pth`, `latest_net_D.pth`) as networks of ours.

In: the state dict of the generator or of both critics as in their file. Out: a `DeepGIN` or a `TwoScalePatchCritic`
that computes the same. Their names number the layers of the coarse stage and of the critics together with paddings and
activations.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from torch import Tensor, nn

from nets.critics import TwoScalePatchCritic
from nets.deepgin.network import DeepGIN, DeepGINConfig

_COARSE: Final = "lr_coarse_tinker"
_LAYERS: Final = {
    **{f"{_COARSE}.{1 + 3 * n}": f"coarse.layers.{n}.0" for n in range(4)},
    **{f"{_COARSE}.{20 + 4 * n}": f"coarse.layers.{10 + n}.convolution.0" for n in range(3)},
    f"{_COARSE}.31": "coarse.layers.13",
    "r_en_conv1": "refinement.stem.0",
    **{f"r_en_conv{n + 2}": f"refinement.downs.{n}.0" for n in range(4)},
    "r_en_skp_conv3": "refinement.skip_far.0.0",
    "r_en_skp_conv4": "refinement.skip_near.0.0",
    **{f"r_de_conv{n + 1}": f"refinement.ups.{n}.convolution.0" for n in range(4)},
    "r_de_mix_conv1": "refinement.mix_near.0",
    "r_de_mix_conv2": "refinement.mix_far.0",
    "r_de_conv2_lr": "refinement.low_head.0.0",
    "r_de_conv3_lr": "refinement.low_head.1",
    "r_de_conv5": "refinement.detail_head",
    "r_de_conv5_lr_alpha": "refinement.alpha_head",
}
_BLOCKS: Final = {f"{_COARSE}.{12 + n}": (f"coarse.layers.{4 + n}", 8) for n in range(6)} | {
    f"r_md_mres{number}": (f"refinement.middle.{place}", 4)
    for place, number in {0: 1, 1: 2, 2: 5, 4: 3, 5: 4, 6: 6}.items()  # the order in which they run
}
"""SPD blocks, theirs to ours, and their numbers of branches."""
_ATTENTIONS: Final = {
    "r_md_satn1": "refinement.middle.3",
    "r_de_satn2": "refinement.skip_near.1",
    "r_de_satn3": "refinement.skip_far.1",
}
_ATTENTION_LAYERS: Final = {"theta": "query", "phi": "key", "g": "value", "W": "output"}
_CRITIC_LAYERS: Final = (0, 2, 4, 6)
_CRITIC_TENSORS: Final = {
    "bias": "bias",
    "weight_bar": "parametrizations.weight.original",
    "weight_u": "parametrizations.weight.0._u",
    "weight_v": "parametrizations.weight.0._v",
}
"""Tensors of a convolution with spectral norm, theirs to ours."""


def load_published(state: Mapping[str, Tensor]) -> DeepGIN:
    """Load a published generator, of track 2 if its first layer has 7 channels.

    Raises ValueError naming tensors that are missing, left over or of another shape.
    """
    names = {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in _name_pairs() for part in ("weight", "bias")}
    found = _rename_tensors(state, names, "generator")
    num_channels = found[names[f"{_COARSE}.1.weight"]].shape[1]
    network = DeepGIN(DeepGINConfig(segmentation=num_channels == DeepGINConfig(segmentation=True).num_channels))
    _load(network, found, "generator")
    return network


def load_published_critics(state: Mapping[str, Tensor]) -> TwoScalePatchCritic:
    """Load both critics of a published checkpoint, of any width; raises ValueError as `load_published` does.

    Each critic is one sequence, or one module per layer if it was trained with feature matching. Their last critic is
    our first, at full resolution.
    """
    matching = any(key.removeprefix("module.").startswith("scale") for key in state)
    found = _rename_tensors(state, dict(_critic_name_pairs(matching)), "critics")
    network = TwoScalePatchCritic(found["scales.0.0.bias"].shape[0])
    _load(network, found, "critics")
    return network


def _rename_tensors(state: Mapping[str, Tensor], names: Mapping[str, str], what: str) -> dict[str, Tensor]:
    """Rename their tensors to ours; raises ValueError unless they are exactly those in `names`."""
    found = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    for problem, keys in (("lacks", names.keys() - found), ("has unknown", found.keys() - names)):
        if keys:
            first = ", ".join(sorted(keys)[:3])
            raise ValueError(f"not a published {what} of DeepGIN: it {problem} {first} ({len(keys)} in all)")
    return {ours: found[theirs] for theirs, ours in names.items()}


def _load(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"not a published {what} of DeepGIN: {error}") from None


def _critic_name_pairs(matching: bool) -> Iterator[tuple[str, str]]:
    """Yield names of all tensors of the critics, theirs and ours."""
    for scale in range(2):
        for number, layer in enumerate(_CRITIC_LAYERS):
            theirs = f"scale{1 - scale}_layer{number}.0" if matching else f"layer{1 - scale}.{layer}"
            for their_part, our_part in _CRITIC_TENSORS.items():
                yield f"{theirs}.module.{their_part}", f"scales.{scale}.{layer}.{our_part}"


def _name_pairs() -> Iterator[tuple[str, str]]:
    """Yield names of all convolutions, theirs and ours."""
    yield from _LAYERS.items()
    for theirs, (ours, num_branches) in _BLOCKS.items():
        yield from ((f"{theirs}.branch{n + 1}.conv", f"{ours}.branches.{n}") for n in range(num_branches))
        yield f"{theirs}.fusion{num_branches + 1}.conv", f"{ours}.mix"
    for theirs, ours in _ATTENTIONS.items():
        yield from ((f"{theirs}.{layer}", f"{ours}.{name}") for layer, name in _ATTENTION_LAYERS.items())
