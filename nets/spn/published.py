"""State dicts of the authors' SPN and SPL -> those of our networks.

In: the tensors of a published checkpoint, `generator.module.…`, `discriminator.module.…`, `tresnet_xL_hold.body.…`, and
those of losses, which belong to no network. Out: networks, or state dicts by network, the last of which is what
`nets.spn.teacher.load_published_trunk` takes. A file of its own because the names are theirs. They are those of the authors'
networks, run beside ours; no published file was at hand. What no map of keys names is taken by its shape where one
tensor of either side has that shape, and refused otherwise. Never by order, which would take one layer for another in
silence.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import torch
from torch import Tensor, nn

from nets.spn.critics import MatchingCritic, PatchCritic
from nets.spn.network import SPL, SPN, SPLConfig, SPNConfig
from nets.spn.prior import DistillationHeads
from nets.spn.targets import TResNetTarget

_NETWORKS: Final = {"generator": "generator.", "critic": "discriminator.", "target": "tresnet_xL_hold."}
_OF_NO_NETWORK: Final = ("adversarial_loss.real_label", "adversarial_loss.fake_label", "vgg_loss.vgg.slice")
"""What the keys of the losses' constants and of VGG-19 begin with."""
_WRAPPER: Final = "module."
_TWICE: Final = ("conv1.0.", "features.0.")
"""The first convolution of the deterministic critics stands in the file under two names."""
_SPADE: Final = {"mlp_shared.0": "shared", "mlp_gamma": "scale", "mlp_beta": "shift"}
_REGIONS: Final = {
    f"{region}_{factor}": f"{ours}_{ours_factor}"
    for region, ours in (("foreground", "hole"), ("background", "rest"))
    for factor, ours_factor in (("gamma", "scale"), ("beta", "shift"))
}
_CRITIC_TENSORS: Final = {
    "weight": "weight",
    "bias": "bias",
    "weight_orig": "parametrizations.weight.original",
    "weight_u": "parametrizations.weight.0._u",
    "weight_v": "parametrizations.weight.0._v",
}
CRITIC_KEYS: Final = {
    f"conv{number + 1}.0.{theirs}": f"layers.{number}.{ours}"
    for number in range(5)
    for theirs, ours in _CRITIC_TENSORS.items()
}
"""Names of the tensors of all three critics -> ours; each has some of them."""


def read_published(state: Mapping[str, Tensor], config: SPNConfig | SPLConfig) -> dict[str, nn.Module]:
    """Networks of a published checkpoint: `generator`, `heads` and, where the file has one, `critic`.

    `config` says which of the three kinds it is. Raises ValueError where a tensor is missing, left over or of another
    shape.
    """
    parts = split_published(state)
    both = nn.ModuleDict({"generator": _build_generator(config), "heads": _build_heads(config)})
    load_published(both, parts.get("generator", {}), map_generator_keys(config))
    networks = dict(both.items())
    if "critic" in parts:
        probabilistic = isinstance(config, SPNConfig) and config.probabilistic
        networks["critic"] = critic = MatchingCritic() if probabilistic else PatchCritic()
        load_published(critic, parts["critic"], CRITIC_KEYS)
    return networks


def _build_generator(config: SPNConfig | SPLConfig) -> SPN | SPL:
    return SPN(config) if isinstance(config, SPNConfig) else SPL(config)


def _build_heads(config: SPNConfig | SPLConfig) -> DistillationHeads:
    num_scales = config.num_scales if isinstance(config, SPNConfig) else 1
    return DistillationHeads(config.width, TResNetTarget().channels[:num_scales])


def map_generator_keys(config: SPNConfig | SPLConfig) -> dict[str, str]:
    """Names or prefixes in a published generator -> ours, `generator.…` and `heads.…`."""
    keys = dict(_shared_keys(config))
    if isinstance(config, SPLConfig):
        return keys | dict(_plain_decoder_keys())
    if config.probabilistic:
        keys |= dict(_variational_keys())
    return keys | dict(_pyramid_keys())


def _shared_keys(config: SPNConfig | SPLConfig) -> Iterator[tuple[str, str]]:
    """Both encoders, the dense bottleneck, the deepest prior and its head, and the fusion at its scale."""
    for level in range(3):
        yield f"encoder_conv{level + 1}", f"generator.encoder.layers.{level}"
        yield f"encoder_conv{level + 2}_sm", f"generator.prior.downs.{level}"
        for theirs, ours in _REGIONS.items():
            yield f"encoder_in{level + 1}.{theirs}", f"generator.encoder.norms.{level}.{ours}"
    for block in range(config.num_spade_blocks):
        theirs, ours = f"middle.{block}.conv_block", f"generator.blocks.{block}"
        yield from {f"{theirs}.3": f"{ours}.first", f"{theirs}.7": f"{ours}.second"}.items()
        yield from _spade_keys(f"{theirs}.0", f"{ours}.adapt_first")
        yield from _spade_keys(f"{theirs}.4", f"{ours}.adapt_second")
    yield "encoder_conv1_sm", "generator.prior.stem"
    yield "encoder_sm_out", "generator.prior.dense.first"
    for block in range(config.num_dense_blocks):
        for layer in range(config.num_dense_layers):
            yield f"rdbs.{block}.layers.{layer}.conv", f"generator.prior.dense.blocks.{block}.layers.{layer}"
        yield f"rdbs.{block}.lff", f"generator.prior.dense.blocks.{block}.fusion"
    yield "gff", "generator.prior.dense.fusion"
    for block in range(config.num_prior_blocks):  # only the first of a probabilistic network has a shortcut
        yield from _residual_keys(f"feature_recon.{block}", f"generator.prior.blocks.{block}")
    yield "feature_mapping", "heads.heads.0"


def _spade_keys(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    yield from ((f"{theirs}.{part}", f"{ours}.{name}") for part, name in _SPADE.items())


def _residual_keys(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    """Names of the layers of a residual block, and of the shortcut that some have."""
    for part, name in {"conv_block.1": "first", "conv_block.4": "second", "shortcut.1": "shortcut"}.items():
        yield f"{theirs}.{part}", f"{ours}.{name}"


def _pyramid_keys() -> Iterator[tuple[str, str]]:
    """SPN: the finer priors, their heads, and the decoder under them."""
    for level, size_px in enumerate((128, 256)):
        yield f"feature_mapping_{size_px}", f"heads.heads.{level + 1}"
        yield f"feature_recon_decoder.{4 * level}", f"generator.prior.ups.{level}.0"
        yield from _residual_keys(f"feature_recon_decoder.{4 * level + 3}", f"generator.prior.joins.{level}")
        theirs, ours = f"decoder.{2 * level + 1}", f"generator.ups.{level}"
        for part, name in {"conv_block.0": "first", "conv_block.3": "second", "SPADE_s": "shortcut"}.items():
            yield from _spade_keys(f"{theirs}.{part}", f"{ours}.adapt_{name}")
        for part, name in {"conv_block.2": "first", "conv_block.5": "second", "conv_s": "shortcut"}.items():
            yield f"{theirs}.{part}", f"{ours}.{name}"
    yield "decoder.6", "generator.out.1"


def _variational_keys() -> Iterator[tuple[str, str]]:
    for level in range(3):
        yield f"encoder_z.{2 * level}", f"generator.prior.variational.encoder.{level}"
        yield f"decoder_z.{3 * level}", f"generator.prior.variational.decoder.{level}.0"
    yield from {"mu": "generator.prior.variational.mean", "sigma": "generator.prior.variational.deviation"}.items()


def _plain_decoder_keys() -> Iterator[tuple[str, str]]:
    """SPL: two doublings with learned region normalization."""
    for level in range(2):
        yield f"decoder.{4 * level}", f"generator.ups.{level}.0"
        for part, name in {"conv1": "importance", "gamma_conv": "scale", "beta_conv": "shift"}.items():
            yield f"decoder.{4 * level + 2}.sa.{part}", f"generator.norms.{level}.{name}"
    yield "decoder.9", "generator.out"


def split_published(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """State dicts of `generator`, `critic` and `target` without the wrappers' `module.`; those that there are.

    What the losses hold is dropped, and the second name of the critic's first convolution. Raises ValueError on a key
    of none of them, and where tensors of the two names differ.
    """
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in state.items():
        if key.startswith(_OF_NO_NETWORK):
            continue
        name = next((name for name, prefix in _NETWORKS.items() if key.startswith(prefix)), None)
        if name is None:
            raise ValueError(f"{key!r} is of no known network: keys begin with {', '.join(_NETWORKS.values())}")
        parts[name][key.removeprefix(_NETWORKS[name]).removeprefix(_WRAPPER)] = tensor
    if "critic" in parts:
        parts["critic"] = _drop_second_names(parts["critic"])
    return dict(parts)


def _drop_second_names(critic: Mapping[str, Tensor]) -> dict[str, Tensor]:
    first, second = _TWICE
    doubles = {key: first + key.removeprefix(second) for key in critic if key.startswith(second)}
    for key, name in doubles.items():
        if name not in critic or not torch.equal(critic[key], critic[name]):
            raise ValueError(
                f"{key!r} of the critic differs from {name!r}, whose second name it is: take an unaltered file"
            )
    return {key: tensor for key, tensor in critic.items() if key not in doubles}


def load_published(network: nn.Module, state: Mapping[str, Tensor], keys: Mapping[str, str]) -> None:
    """Gives a network the tensors of a published state dict; `keys` are its names or prefixes -> ours.

    The published generator holds the heads: load it into an `nn.ModuleDict` of our generator and our heads. Tensors
    of shape (C,) come into those of (1, C, 1, 1), as region normalization has them.

    Raises ValueError where a tensor of either side has no counterpart, more than one, or one of another shape.
    """
    wanted = network.state_dict()
    pairs = _named_pairs(state, wanted, keys)
    rest = [key for key in state if key not in pairs]
    open_ones = [key for key in wanted if key not in pairs.values()]
    pairs |= _pairs_by_shape({k: state[k] for k in rest}, {k: wanted[k] for k in open_ones})
    network.load_state_dict({ours: state[theirs].view_as(wanted[ours]) for theirs, ours in pairs.items()})


def _named_pairs(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], keys: Mapping[str, str]) -> dict[str, str]:
    """Published key -> ours, by the longest prefix in the map, up to a dot or the whole name."""
    pairs: dict[str, str] = {}
    for key in state:
        prefix = max((p for p in keys if key == p or key.startswith(f"{p}.")), key=len, default=None)
        if prefix is None:
            continue
        ours = keys[prefix] + key[len(prefix) :]
        if ours not in wanted or ours in pairs.values():
            fault = "which is not there" if ours not in wanted else "which another key is mapped to as well"
            raise ValueError(f"{key!r} is mapped to {ours!r}, {fault}: correct the map of keys")
        if tuple(wanted[ours].shape) not in (shape := tuple(state[key].shape), (1, *shape, 1, 1)):
            shapes = f"{shape}, {ours!r} has {tuple(wanted[ours].shape)}"
            raise ValueError(f"{key!r} has the shape {shapes}: correct the map of keys or the sizes of the network")
        pairs[key] = ours
    return pairs


def _pairs_by_shape(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, str]:
    """Published key -> ours where exactly one of each side has a shape; anything else is refused."""
    theirs, ours = _by_shape(state), _by_shape(wanted)
    for shape in theirs.keys() | ours.keys():
        if len(theirs[shape]) != 1 or len(ours[shape]) != 1:
            found = f"the published state has {_listed(theirs[shape])}, the network {_listed(ours[shape])}"
            raise ValueError(f"of shape {shape} {found}: say in the map of keys which is which")
    return {theirs[shape][0]: ours[shape][0] for shape in theirs}


def _by_shape(state: Mapping[str, Tensor]) -> dict[tuple[int, ...], list[str]]:
    shapes: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for key, tensor in state.items():
        shapes[tuple(tensor.shape)].append(key)
    return shapes


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(map(repr, keys)) or "none"
