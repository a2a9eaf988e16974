"""Checkpoints: one folder per clock, `checkpoints/<images_seen>/`, that counts only once its `state.json` is there.

A door between training, which writes them, and evaluation and registry, which read the generator out of them. Tensors
are safetensors, everything else is JSON; `state.json` carries the SHA-256 of every file and of itself and is written
last of them. Then the clock enters the run's list of commits (`pipelines.commit_list`).

A training goes on from the newest checkpoint that is whole, and says which damaged one it passes over. A reader takes
the newest that was committed, or refuses: an older one in its place would be another model.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from safetensors.torch import load, save
from torch import Tensor

from infra import storage
from nets.filling import Procedure
from pipelines.commit_list import LIST_FILE, publish_commit_list, read_commit_list
from pipelines.manifest import read_checked, seal, unseal
from pipelines.records import CorruptDataError, UsageError, sha256_hex
from pipelines.run_record import RUN_FILE, RUN_FORMAT, read_run_id, refuse_other_format

FOLDER: Final = "checkpoints"
STATE_FILE: Final = "state.json"
AVERAGE: Final = "average"
"""The file of averaged weights of the generator, where a training takes them."""
BEST: Final = "best_images_seen"
"""In the state of a run that stops early: the clock of its best checkpoint so far."""
_KEPT: Final = 2
_DIGITS: Final = 12
"""Of the name of a checkpoint's folder, at least."""

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

    @property
    def procedure(self) -> Procedure:
        """How its network fills photos of other sizes; the default for imported weights."""
        return Procedure(**self.state.get("procedure", {}))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The named tensors of one file.

        Raises CorruptDataError naming the file where its bytes are not those recorded.
        """
        return load(self.read(name))

    def read(self, name: str) -> bytes:
        """The bytes of one file, checked."""
        file = f"{name}.safetensors"
        return read_checked(storage.join(self.uri, file), self.state["files"][file])


def save_checkpoint(
    out: str, files: dict[str, dict[str, Tensor]], state: dict[str, Any], keep: Collection[int] = ()
) -> Checkpoint:
    """Publish tensors and state at the state's clock under the run `out`, then enter the clock in the run's list.

    Then drop all but this one, the one before it and those of the clocks `keep`: later ones too where they are
    damaged, from which a training goes on at an earlier one. Later ones that are whole are another command's.
    """
    _ensure_commit_list(out)  # a state must not name a list that a kill may leave unwritten
    uri = _uri(out, state["images_seen"])
    digests = {}
    for name, tensors in sorted(files.items()):
        data = save({key: tensor.contiguous() for key, tensor in tensors.items()})
        storage.publish(storage.join(uri, f"{name}.safetensors"), data)
        digests[f"{name}.safetensors"] = sha256_hex(data)
    whole = {**state, "format": RUN_FORMAT, "files": digests}
    storage.publish(storage.join(uri, STATE_FILE), seal(whole))
    _list_and_drop(out, state["images_seen"], keep)
    return Checkpoint(uri, whole)


def _list_and_drop(out: str, images_seen: int, keep: Collection[int]) -> None:
    """Enter the new clock in the run's list and remove what is not kept.

    Killed anywhere, it leaves a run that readers take as before or as after.
    """
    uris = _uris(out)
    later = [uri for uri in uris if _clock(uri) > images_seen]
    damaged = [uri for uri in later if _clock(uri) not in keep and not _opens(_whole, uri)]
    older = [uri for uri in uris[len(later) + _KEPT :] if _clock(uri) not in keep]
    # Remove what readers refuse before the list is shorter: afterwards it would look like a newer commit, damaged.
    for uri in damaged:
        log.warning("%s was committed and is damaged: removed, the run goes on from %d images", uri, images_seen)
        if not _opens(_filling, uri):
            _remove(uri)
    publish_commit_list(out, (_clock(uri) for uri in uris if uri not in (*damaged, *older)))
    # Remove what readers take once the list has forgotten it: before, it would look like damage.
    for uri in (*damaged, *older):
        _remove(uri)


def _remove(uri: str) -> None:
    """Remove a checkpoint, its state first: killed meanwhile, it is one that was never committed."""
    storage.remove(storage.join(uri, STATE_FILE))
    storage.remove(uri)


def _opens(open_folder: Callable[[str], Checkpoint], uri: str) -> bool:
    try:
        open_folder(uri)
    except CorruptDataError:
        return False
    return True


def _ensure_commit_list(out: str) -> None:
    try:
        missing = read_commit_list(out) is None
    except CorruptDataError:
        missing = True
    if missing:
        repair_commit_list(out)


def repair_commit_list(out: str) -> None:
    """Write the run's list where it is missing, damaged, or lacks a checkpoint that was committed after it.

    The last happens where a training was killed between the `state.json` of a checkpoint and the list. Raises
    CorruptDataError where the list is damaged and no checkpoint is left: nothing starts over in silence.
    """
    listed, problem = None, f"there is no {storage.join(out, LIST_FILE)}"
    try:
        listed = read_commit_list(out)
    except CorruptDataError as fault:
        if not _uris(out):
            raise
        problem = str(fault)
    committed = _committed(out, listed or ())
    if listed is None and committed:
        log.warning("the list of commits is made from the checkpoints that are there: %s", problem)
    if committed != listed:
        publish_commit_list(out, committed)


def _committed(out: str, listed: tuple[int, ...]) -> tuple[int, ...]:
    """Clocks of the committed checkpoints, oldest first: those listed, and newer ones that have their `state.json`."""
    return (*listed, *sorted(map(_clock, _uris(out, after=max(listed, default=-1)))))


def refuse_other_checkpoints(out: str, run_id: str, record: str) -> None:
    """Raise CorruptDataError where a checkpoint is not of the run that `record` names.

    Training would go on from other weights.

    States that cannot be read are passed over; whoever opens them says so.
    """
    for uri in _uris(out):
        try:
            checkpoint = _stated(uri)
        except CorruptDataError:
            continue
        _refuse_foreign(checkpoint, run_id, record)


def find_latest_checkpoint(out: str) -> Checkpoint | None:
    """The checkpoint from which a training goes on: the newest that is whole, None before the first.

    A damaged one is named in the log and passed over. Raises CorruptDataError where there are or were checkpoints and
    none is whole: nothing starts over in silence.
    """
    uris = _uris(out)
    try:
        listed = read_commit_list(out) or ()
    except CorruptDataError:
        if not uris:
            raise
        listed = ()
    clocks = sorted({*map(_clock, uris), *listed}, reverse=True)
    for clock in clocks:
        try:
            return _whole(_uri(out, clock))
        except CorruptDataError as fault:
            log.warning("checkpoint refused, the one before it is asked: %s", fault)
    if clocks:
        raise CorruptDataError(
            f"none of the {len(clocks)} checkpoints of {out} is whole: restore one, or train at another --out"
        )
    return None


def list_committed_after(out: str, images_seen: int) -> list[int]:
    """Clocks of the committed checkpoints behind this one, as far as the run's list can be read."""
    try:
        listed = read_commit_list(out) or ()
    except CorruptDataError:
        listed = ()
    return [clock for clock in _committed(out, listed) if clock > images_seen]


def has_checkpoints(out: str) -> bool:
    """Whether any is committed, be it gone by now.

    Raises CorruptDataError where the list alone could say so and is damaged.
    """
    return bool(_uris(out)) or bool(read_commit_list(out))


def find_newest_clock(out: str) -> int:
    """The clock of the newest committed checkpoint, by its name alone; 0 where there is none."""
    return max(map(_clock, _uris(out)), default=0)


def open_checkpoint(uri: str) -> Checkpoint:
    """The checkpoint of this folder, or of a run's folder the one that the run is for; raises UsageError where is none.

    That is the newest that was committed, or the one that it calls the best. Its state and generator are checked, files
    that filling does not need are not read. Raises CorruptDataError where they are not whole, naming another that is.
    """
    uri = storage.to_absolute(uri).rstrip("/")
    out = _run_of(uri)
    try:
        if storage.exists(storage.join(uri, STATE_FILE)):
            return _filling(uri)
        if out is not None and _clock(uri) in (read_commit_list(out) or ()):
            return _stated(uri)  # which says that its state is missing
        return _open_run(uri)
    except CorruptDataError as fault:
        raise CorruptDataError(f"{fault}. {_instead(out or uri)}") from None


def _open_run(out: str) -> Checkpoint:
    listed = read_commit_list(out)
    if listed is None:
        raise _no_list(out)
    committed = _committed(out, listed)
    if not committed:
        raise _no_checkpoint(out)
    try:
        return _choose(out, _stated(_uri(out, committed[-1])))
    except CorruptDataError:
        if read_commit_list(out) == listed:
            raise
    return _open_run(out)  # a training has committed and dropped meanwhile


def _no_list(out: str) -> UsageError | CorruptDataError:
    """Error for a run without a list of commits."""
    newest = find_latest_checkpoint(out)
    if newest is None:
        return _no_checkpoint(out)
    return CorruptDataError(f"{storage.join(out, LIST_FILE)} is missing: it says which checkpoints were committed")


def _choose(out: str, newest: Checkpoint) -> Checkpoint:
    best = newest.state.get(BEST)
    return _filling(newest.uri if best is None else _uri(out, best))


def _no_checkpoint(uri: str) -> UsageError:
    return UsageError(f"no checkpoint at {uri}: give a folder with {STATE_FILE}, or the --out of a training")


def _instead(out: str) -> str:
    """What to do where the checkpoint that is asked for is damaged."""
    for uri in _uris(out):
        if _opens(_filling, uri):
            return f"Nothing else is taken in its place: give {uri} to use that one, or run the training again"
    return "No other checkpoint of the run is whole"


def _stated(uri: str) -> Checkpoint:
    """The checkpoint of this folder by its state alone; raises CorruptDataError."""
    state_uri = storage.join(uri, STATE_FILE)
    try:
        data = storage.read_bytes(state_uri)
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptDataError(f"{state_uri} is missing: restore it, or make again what it belongs to") from None
    checkpoint = Checkpoint(uri, unseal(data, state_uri))
    refuse_other_format(state_uri, checkpoint.state)
    if _run_of(uri) is not None and checkpoint.images_seen != _clock(uri):
        raise CorruptDataError(
            f"{state_uri} is the state of {checkpoint.images_seen} images: restore that of its folder"
        )
    return checkpoint


def _filling(uri: str) -> Checkpoint:
    """The checkpoint of this folder with the weights that fill checked; raises CorruptDataError."""
    checkpoint = _stated(uri)
    out = _run_of(uri)
    if out is not None and (run_id := read_run_id(out)) is not None:
        _refuse_foreign(checkpoint, run_id, storage.join(out, RUN_FILE))
    checkpoint.read(checkpoint.generator)
    return checkpoint


def _refuse_foreign(checkpoint: Checkpoint, run_id: str, record: str) -> None:
    """Raise CorruptDataError where the checkpoint is not of the run that lies around it."""
    found = checkpoint.state.get("run_id")
    if found != run_id:
        raise CorruptDataError(
            f"{record} has run_id {run_id}, {checkpoint.uri} has {found}: restore what is not of this run, or train at "
            "another --out"
        )


def _whole(uri: str) -> Checkpoint:
    """The checkpoint of this folder with every byte checked; raises CorruptDataError."""
    checkpoint = _stated(uri)
    for name in checkpoint.state["files"]:
        checkpoint.read(name.removesuffix(".safetensors"))
    return checkpoint


def _uri(out: str, images_seen: int) -> str:
    return storage.join(out, FOLDER, f"{images_seen:0{_DIGITS}d}")


def _clock(uri: str) -> int:
    return int(uri.rpartition("/")[2])


def _run_of(uri: str) -> str | None:
    """The run in which this is the folder of a checkpoint, None where it is no such folder."""
    out, _, name = uri.rpartition(f"/{FOLDER}/")
    return out if out and _is_clock(name) else None


def _is_clock(name: str) -> bool:
    """Whether we would name the folder of a checkpoint so: not a copy that was made by hand, as 32 of 000000000032."""
    return name.isdecimal() and name == f"{int(name):0{_DIGITS}d}"


def _uris(out: str, after: int = -1) -> list[str]:
    """The checkpoints of a run behind this clock that have their state, newest first."""
    fs, path = storage.locate(storage.join(out, FOLDER))
    if not fs.exists(path):
        return []
    names = (str(entry).rstrip("/").rpartition("/")[2] for entry in fs.ls(path, detail=False))
    newest_first = sorted((int(name) for name in names if _is_clock(name) and int(name) > after), reverse=True)
    uris = [_uri(out, clock) for clock in newest_first]
    return [uri for uri in uris if storage.exists(storage.join(uri, STATE_FILE))]
