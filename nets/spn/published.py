"""State dicts of the authors' SPN and SPL -> those of our networks.

In: the tensors of a published checkpoint, `generator.module.…`, `discriminator.module.…`, `tresnet_xL_hold.body.…`.
Out: state dicts by network; the last is what `nets.spn.teacher.published_trunk` takes. A file of its own because the
names of the layers inside are not known to us: what no map of keys names is taken by its shape where one tensor of
either side has that shape, and refused otherwise. Never by order, which would take one layer for another in silence.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from torch import Tensor, nn

_NETWORKS: Final = {"generator": "generator.", "critic": "discriminator.", "target": "tresnet_xL_hold."}
_WRAPPER: Final = "module."


def split_published(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """State dicts of `generator`, `critic` and `target` without the wrappers' `module.`; those that there are.

    Raises ValueError on a key of none of them.
    """
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in state.items():
        name = next((name for name, prefix in _NETWORKS.items() if key.startswith(prefix)), None)
        if name is None:
            raise ValueError(f"{key!r} is of no known network: keys begin with {', '.join(_NETWORKS.values())}")
        parts[name][key.removeprefix(_NETWORKS[name]).removeprefix(_WRAPPER)] = tensor
    return dict(parts)


def load_published(network: nn.Module, state: Mapping[str, Tensor], keys: Mapping[str, str]) -> None:
    """Gives a network the tensors of a published state dict; `keys` are its names or prefixes -> ours.

    The published generator holds the heads: load it into an `nn.ModuleDict` of our generator and our heads.

    Raises ValueError where a tensor of either side has no counterpart, more than one, or one of another shape.
    """
    wanted = network.state_dict()
    pairs = _named_pairs(state, wanted, keys)
    rest = [key for key in state if key not in pairs]
    open_ones = [key for key in wanted if key not in pairs.values()]
    pairs |= _pairs_by_shape({k: state[k] for k in rest}, {k: wanted[k] for k in open_ones})
    network.load_state_dict({ours: state[theirs] for theirs, ours in pairs.items()})


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
        if state[key].shape != wanted[ours].shape:
            shapes = f"{tuple(state[key].shape)}, {ours!r} has {tuple(wanted[ours].shape)}"
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
