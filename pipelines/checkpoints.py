"""Checkpoints: one folder per clock, `checkpoints/<images_seen>/`, that counts only once its `state.json` is there.

A door between training, which writes them, and evaluation and registry, which read the generator out of them. Tensors
are safetensors, everything else is JSON; `state.json` carries the SHA-256 of every file and of itself and is written
last. A damaged checkpoint is refused loudly, and the one before it is taken.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from safetensors.torch import load, save
from torch import Tensor

from infra import storage
from pipelines.manifest import read_checked, seal, unseal
from pipelines.records import Damaged, Refused, sha256_hex

FOLDER: Final = "checkpoints"
STATE_FILE: Final = "state.json"
AVERAGE: Final = "average"
"""The file of averaged weights of the generator, where a training takes them."""
BEST: Final = "best_images_seen"
"""In the state of a run that stops early: the clock of its best checkpoint so far."""
_KEPT: Final = 2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose state is whole; its tensors are checked when they are read."""

    uri: str
    state: dict[str, Any]

    @property
    def images_seen(self) -> int:
        """The clock at which it was taken."""
        return int(self.state["images_seen"])

    def file_sha256(self, name: str) -> str:
        """The recorded digest of one of its files, by its name without suffix."""
        return str(self.state["files"][f"{name}.safetensors"])

    @property
    def generator(self) -> str:
        """The name of the file with the weights that are scored and registered."""
        return AVERAGE if f"{AVERAGE}.safetensors" in self.state["files"] else "generator"

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The named tensors of one file; raises Damaged naming the file where its bytes are not those recorded."""
        return load(self.read(name))

    def read(self, name: str) -> bytes:
        """The bytes of one file, checked."""
        file = f"{name}.safetensors"
        return read_checked(storage.join(self.uri, file), self.state["files"][file])


def save_checkpoint(
    out: str, files: dict[str, dict[str, Tensor]], state: dict[str, Any], keep: Collection[int] = ()
) -> Checkpoint:
    """Publishes tensors and state at the state's clock under the run `out`.

    Then drops all but this one, the one before it and those of the clocks `keep`: later ones too where they are
    damaged, from which a training goes on at an earlier one. Later ones that are whole are another command's.
    """
    uri = _uri(out, state["images_seen"])
    digests = {}
    for name, tensors in sorted(files.items()):
        data = save({key: tensor.contiguous() for key, tensor in tensors.items()})
        storage.publish(storage.join(uri, f"{name}.safetensors"), data)
        digests[f"{name}.safetensors"] = sha256_hex(data)
    whole = {**state, "files": digests}
    storage.publish(storage.join(uri, STATE_FILE), seal(whole))
    _drop_others(out, state["images_seen"], keep)
    return Checkpoint(uri, whole)


def _drop_others(out: str, images_seen: int, keep: Collection[int]) -> None:
    uris = _uris(out)
    later = [uri for uri in uris if _clock(uri) > images_seen]
    older = uris[len(later) + _KEPT :]
    for uri in (*filter(_is_damaged, later), *older):
        if _clock(uri) not in keep:
            storage.remove(uri)


def _is_damaged(uri: str) -> bool:
    try:
        _whole(uri)
    except (Damaged, FileNotFoundError):
        return True
    return False


def latest_checkpoint(out: str) -> Checkpoint | None:
    """The newest whole checkpoint of a run, None before the first; a damaged one is named in the log and passed over.

    Raises Damaged where there are checkpoints and none of them is whole: nothing starts over in silence.
    """
    uris = _uris(out)
    for uri in uris:
        try:
            return _whole(uri)
        except (Damaged, FileNotFoundError) as fault:
            log.warning("checkpoint refused, the one before it is asked: %s", fault)
    if uris:
        raise Damaged(f"none of the {len(uris)} checkpoints of {out} is whole: restore one, or train at another --out")
    return None


def has_checkpoints(out: str) -> bool:
    """Whether any is committed."""
    return bool(_uris(out))


def newest_clock(out: str) -> int:
    """The clock of the newest committed checkpoint, by its name alone; 0 where there is none."""
    return max(map(_clock, _uris(out)), default=0)


def _whole(uri: str) -> Checkpoint:
    """The checkpoint of this folder with every byte checked; raises Damaged or FileNotFoundError."""
    state_uri = storage.join(uri, STATE_FILE)
    checkpoint = Checkpoint(uri, unseal(storage.read_bytes(state_uri), state_uri))
    for name in checkpoint.state["files"]:
        checkpoint.read(name.removesuffix(".safetensors"))
    return checkpoint


def _uri(out: str, images_seen: int) -> str:
    return storage.join(out, FOLDER, f"{images_seen:012d}")


def _clock(uri: str) -> int:
    return int(uri.rpartition("/")[2])


def open_checkpoint(uri: str) -> Checkpoint:
    """The checkpoint of this folder, or of a run's folder the one that the run is for; raises Refused where is none.

    That is the newest, or the one that it calls the best: Damaged is raised where that one is not whole.
    """
    uri = storage.absolute(uri)
    state_uri = storage.join(uri, STATE_FILE)
    if storage.exists(state_uri):
        return Checkpoint(uri, unseal(storage.read_bytes(state_uri), state_uri))
    newest = latest_checkpoint(uri)
    if newest is None:
        raise Refused(f"no checkpoint at {uri}: give a folder with {STATE_FILE}, or the --out of a training")
    best = newest.state.get(BEST)
    return newest if best in (None, newest.images_seen) else _whole(_uri(uri, best))


def _uris(out: str) -> list[str]:
    """The committed checkpoints of a run, newest first."""
    fs, path = storage.locate(storage.join(out, FOLDER))
    if not fs.exists(path):
        return []
    names = (str(entry).rstrip("/").rpartition("/")[2] for entry in fs.ls(path, detail=False))
    uris = [storage.join(out, FOLDER, name) for name in sorted(names, reverse=True) if name.isdigit()]
    return [uri for uri in uris if storage.exists(storage.join(uri, STATE_FILE))]
