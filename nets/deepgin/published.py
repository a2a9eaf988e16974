"""The authors' published checkpoints of DeepGIN (`latest_net_G.pth`) as networks of ours.

In: the generator's state dict as their file has it. Out: a `DeepGIN` that computes the same. A file of its own because
the names are theirs; they number the layers of the coarse stage together with its paddings and activations.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from torch import Tensor

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
"""SPD blocks and their numbers of branches."""
_ATTENTIONS: Final = {
    "r_md_satn1": "refinement.middle.3",
    "r_de_satn2": "refinement.skip_near.1",
    "r_de_satn3": "refinement.skip_far.1",
}
_ATTENTION_LAYERS: Final = {"theta": "query", "phi": "key", "g": "value", "W": "output"}


def load_published(state: Mapping[str, Tensor]) -> DeepGIN:
    """The network of a published generator, of track 2 if its first layer has 7 channels.

    Raises ValueError naming the tensors that lack, that are too many or that have another shape.
    """
    found = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    names = {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in _pairs() for part in ("weight", "bias")}
    for problem, keys in (("lacks", names.keys() - found), ("has unknown", found.keys() - names)):
        if keys:
            first = ", ".join(sorted(keys)[:3])
            raise ValueError(f"no published generator of DeepGIN: it {problem} {first} ({len(keys)} in all)")
    num_channels = found[f"{_COARSE}.1.weight"].shape[1]
    network = DeepGIN(DeepGINConfig(segmentation=num_channels == DeepGINConfig(segmentation=True).num_channels))
    try:
        network.load_state_dict({ours: found[theirs] for theirs, ours in names.items()})
    except RuntimeError as fault:
        raise ValueError(f"no published generator of DeepGIN: {fault}") from None
    return network


def _pairs() -> Iterator[tuple[str, str]]:
    """Names of all convolutions, theirs and ours."""
    yield from _LAYERS.items()
    for theirs, (ours, num_branches) in _BLOCKS.items():
        yield from ((f"{theirs}.branch{n + 1}.conv", f"{ours}.branches.{n}") for n in range(num_branches))
        yield f"{theirs}.fusion{num_branches + 1}.conv", f"{ours}.mix"
    for theirs, ours in _ATTENTIONS.items():
        yield from ((f"{theirs}.{layer}", f"{ours}.{name}") for layer, name in _ATTENTION_LAYERS.items())
