"""Checkpoints: one folder per clock, `checkpoints/<images_seen>/`, valid only once its `state.json` is there.

Training writes them; evaluation and registry read the generator from them. Tensors are safetensors, everything else is
JSON. `state.json` holds the SHA-256 of every file and of itself and is written last. Then the clock enters the run's
list of commits (`pipelines.commit_list`).

A training goes on from the newest sound checkpoint, and names the damaged ones that it skips. A reader takes the newest
that was committed, or fails: an older one in its place would be another model.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from safetensors.torch import load, save
from torch import Tensor

from infra import storage
from nets.filling import Procedure
from pipelines.checked_files import read_checked, seal, unseal
from pipelines.commit_list import LIST_FILE, publish_commit_list, read_commit_list
from pipelines.records import CorruptDataError, UsageError, sha256_hex
from pipelines.run_record import RUN_FILE, RUN_FORMAT, read_run_id, refuse_other_format

FOLDER: Final = "checkpoints"
STATE_FILE: Final = "state.json"
AVERAGE: Final = "average"
"""File of averaged weights of the generator, in trainings that average them."""
BEST: Final = "best_images_seen"
"""Field in the state of a run that stops early: the clock of its best checkpoint so far."""
_KEPT: Final = 2
_DIGITS: Final = 12
"""Least number of digits in the name of a checkpoint's folder."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Checkpoint whose state is sound; its tensors are checked when they are read."""

    uri: str
    state: dict[str, Any]

    @property
    def images_seen(self) -> int:
        """Clock of the checkpoint."""
        return int(self.state["images_seen"])

    def file_sha256(self, name: str) -> str:
        """Recorded digest of one of its files, by its name without suffix."""
        return str(self.state["files"][f"{name}.safetensors"])

    @property
    def generator(self) -> str:
        """Name of the file with the weights that are scored and registered."""
        return AVERAGE if f"{AVERAGE}.safetensors" in self.state["files"] else "generator"

    @property
    def procedure(self) -> Procedure:
        """Way in which its network fills photos of other sizes; the default for imported weights."""
        return Procedure(**self.state.get("procedure", {}))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Tensors of one file by name; raises CorruptDataError where its bytes are not those recorded."""
        return load(self.read(name))

    def read(self, name: str) -> bytes:
        """Bytes of one file, checked against their digest."""
        file = f"{name}.safetensors"
        return read_checked(storage.join(self.uri, file), self.state["files"][file])


def save_checkpoint(
    out: str, files: dict[str, dict[str, Tensor]], state: dict[str, Any], keep: Collection[int] = ()
) -> Checkpoint:
    """Publish tensors and state at the state's clock under the run `out`, then enter the clock in the run's list.

    Then drop all but this one, the one before it and those of the clocks `keep`. Later damaged ones are dropped too, as
    the training went on from an earlier one; later sound ones are another command's.
    """
    if _try_read_list(out) is None:  # a checkpoint must not exist before the list
        repair_commit_list(out)
    uri = _make_uri(out, state["images_seen"])
    digests = {}
    for name, tensors in sorted(files.items()):
        data = save({key: tensor.contiguous() for key, tensor in tensors.items()})
        storage.publish(storage.join(uri, f"{name}.safetensors"), data)
        digests[f"{name}.safetensors"] = sha256_hex(data)
    sealed = {**state, "format": RUN_FORMAT, "files": digests}
    storage.publish(storage.join(uri, STATE_FILE), seal(sealed))
    _list_and_drop(out, state["images_seen"], keep)
    return Checkpoint(uri, sealed)


def _list_and_drop(out: str, images_seen: int, keep: Collection[int]) -> None:
    """Enter the new clock in the run's list and remove what is not kept.

    Killed anywhere, it leaves a run that readers see as before or as after.
    """
    uris = _list_uris(out)
    later = [uri for uri in uris if _parse_clock(uri) > images_seen]
    damaged = [uri for uri in later if _parse_clock(uri) not in keep and not _can_open(_open_whole, uri)]
    older = [uri for uri in uris[len(later) + _KEPT :] if _parse_clock(uri) not in keep]
    # Remove what readers refuse before the list is shorter: afterwards it would look like a newer commit, damaged.
    for uri in damaged:
        log.warning("%s was committed and is damaged: removed, the run goes on from %d images", uri, images_seen)
        if not _can_open(_open_for_fills, uri):
            _remove(uri)
    publish_commit_list(out, (_parse_clock(uri) for uri in uris if uri not in (*damaged, *older)))
    # Remove what readers accept after the list is shorter: before, it would look like damage.
    for uri in (*damaged, *older):
        _remove(uri)


def _remove(uri: str) -> None:
    """Remove a checkpoint, its state first: killed in between, it was never committed."""
    storage.remove(storage.join(uri, STATE_FILE))
    storage.remove(uri)


def _can_open(open_folder: Callable[[str], Checkpoint], uri: str) -> bool:
    try:
        open_folder(uri)
    except CorruptDataError:
        return False
    return True


def _try_read_list(out: str) -> tuple[int, ...] | None:
    """Clocks of the run's list, None where it is missing or damaged."""
    try:
        return read_commit_list(out)
    except CorruptDataError:
        return None


def repair_commit_list(out: str) -> None:
    """Write the run's list where it is missing, damaged, or lacks a checkpoint that was committed after it.

    The last happens where a training was killed between the `state.json` of a checkpoint and the list. Raises
    CorruptDataError where the list is damaged and no checkpoint is left: no training starts over in silence.
    """
    listed, problem = None, f"there is no {storage.join(out, LIST_FILE)}"
    try:
        listed = read_commit_list(out)
    except CorruptDataError as fault:
        if not _list_uris(out):
            raise
        problem = str(fault)
    committed = _list_committed(out, listed or ())
    if listed is None and committed:
        log.warning("the list of commits is rebuilt from the existing checkpoints: %s", problem)
    if committed != listed:
        publish_commit_list(out, committed)


def _list_committed(out: str, listed: tuple[int, ...]) -> tuple[int, ...]:
    """Clocks of the committed checkpoints, oldest first: those listed, and newer ones that have their `state.json`."""
    return (*listed, *sorted(map(_parse_clock, _list_uris(out, after=max(listed, default=-1)))))


def refuse_other_checkpoints(out: str, run_id: str, record: str) -> None:
    """Raise CorruptDataError where a checkpoint is not of the run that `record` names.

    Training would go on from other weights. Unreadable states are skipped, as opening them raises anyway.
    """
    for uri in _list_uris(out):
        try:
            checkpoint = _open_state(uri)
        except CorruptDataError:
            continue
        _refuse_foreign(checkpoint, run_id, record)


def find_latest_checkpoint(out: str) -> Checkpoint | None:
    """Checkpoint from which a training goes on: the newest sound one, None before the first.

    A damaged one is named in the log and skipped. Raises CorruptDataError where there are or were checkpoints and none
    is sound: no training starts over in silence.
    """
    uris = _list_uris(out)
    listed = (_try_read_list(out) if uris else read_commit_list(out)) or ()
    clocks = sorted({*map(_parse_clock, uris), *listed}, reverse=True)
    for clock in clocks:
        try:
            return _open_whole(_make_uri(out, clock))
        except CorruptDataError as fault:
            log.warning("checkpoint refused, trying the one before it: %s", fault)
    if clocks:
        raise CorruptDataError(
            f"none of the {len(clocks)} checkpoints of {out} is sound: restore one, or train at another --out"
        )
    return None


def list_committed_after(out: str, images_seen: int) -> list[int]:
    """Clocks of the committed checkpoints after this one; those of the run's list only if it can be read."""
    return [clock for clock in _list_committed(out, _try_read_list(out) or ()) if clock > images_seen]


def has_checkpoints(out: str) -> bool:
    """Whether any checkpoint was committed, also if it is gone by now.

    Raises CorruptDataError where no checkpoint is there and the list is damaged.
    """
    return bool(_list_uris(out)) or bool(read_commit_list(out))


def find_newest_clock(out: str) -> int:
    """Clock of the newest committed checkpoint, by its name alone; 0 where there is none."""
    return max(map(_parse_clock, _list_uris(out)), default=0)


def open_checkpoint(uri: str) -> Checkpoint:
    """Checkpoint of this folder, or of a run's folder the newest committed or the best one.

    Its state and generator are checked; files that filling does not need are not read. Raises UsageError where there is
    none, CorruptDataError where it is damaged, naming a sound one.
    """
    uri = storage.to_absolute(uri).rstrip("/")
    out = _find_run(uri)
    try:
        if storage.exists(storage.join(uri, STATE_FILE)):
            return _open_for_fills(uri)
        if out is not None and _parse_clock(uri) in (read_commit_list(out) or ()):
            return _open_state(uri)  # raises that its state is missing
        return _open_run(uri)
    except CorruptDataError as fault:
        raise CorruptDataError(f"{fault}. {_name_sound_one(out or uri)}") from None


def _open_run(out: str) -> Checkpoint:
    listed = read_commit_list(out)
    if listed is None:
        if find_latest_checkpoint(out) is None:
            raise _make_missing_error(out)
        raise CorruptDataError(f"{storage.join(out, LIST_FILE)} is missing: it lists the committed checkpoints")
    committed = _list_committed(out, listed)
    if not committed:
        raise _make_missing_error(out)
    try:
        newest = _open_state(_make_uri(out, committed[-1]))
        best = newest.state.get(BEST)
        return _open_for_fills(newest.uri if best is None else _make_uri(out, best))
    except CorruptDataError:
        if read_commit_list(out) == listed:
            raise
    return _open_run(out)  # a training has committed and dropped meanwhile


def _make_missing_error(uri: str) -> UsageError:
    return UsageError(f"no checkpoint at {uri}: give a folder with {STATE_FILE}, or the --out of a training")


def _name_sound_one(out: str) -> str:
    """Advice for a damaged checkpoint: a sound one of its run."""
    for uri in _list_uris(out):
        if _can_open(_open_for_fills, uri):
            return f"No other one is used in its place: give {uri} to use that one, or run the training again"
    return "No other checkpoint of the run is sound"


def _open_state(uri: str) -> Checkpoint:
    """Checkpoint of this folder by its state alone; raises CorruptDataError."""
    state_uri = storage.join(uri, STATE_FILE)
    try:
        data = storage.read_bytes(state_uri)
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptDataError(f"{state_uri} is missing: restore it, or make again what it belongs to") from None
    checkpoint = Checkpoint(uri, unseal(data, state_uri))
    refuse_other_format(state_uri, checkpoint.state)
    if _find_run(uri) is not None and checkpoint.images_seen != _parse_clock(uri):
        raise CorruptDataError(
            f"{state_uri} is the state of {checkpoint.images_seen} images: restore that of its folder"
        )
    return checkpoint


def _open_for_fills(uri: str) -> Checkpoint:
    """Checkpoint of this folder with its generator checked; raises CorruptDataError."""
    checkpoint = _open_state(uri)
    out = _find_run(uri)
    if out is not None and (run_id := read_run_id(out)) is not None:
        _refuse_foreign(checkpoint, run_id, storage.join(out, RUN_FILE))
    checkpoint.read(checkpoint.generator)
    return checkpoint


def _refuse_foreign(checkpoint: Checkpoint, run_id: str, record: str) -> None:
    """Raise CorruptDataError where the checkpoint is not of the run whose folder it is in."""
    found = checkpoint.state.get("run_id")
    if found != run_id:
        raise CorruptDataError(
            f"{record} has run_id {run_id}, {checkpoint.uri} has {found}: restore what is not of this run, or train "
            "at another --out"
        )


def _open_whole(uri: str) -> Checkpoint:
    """Checkpoint of this folder with every byte checked; raises CorruptDataError."""
    checkpoint = _open_state(uri)
    for name in checkpoint.state["files"]:
        checkpoint.read(name.removesuffix(".safetensors"))
    return checkpoint


def _make_uri(out: str, images_seen: int) -> str:
    return storage.join(out, FOLDER, f"{images_seen:0{_DIGITS}d}")


def _parse_clock(uri: str) -> int:
    return int(uri.rpartition("/")[2])


def _find_run(uri: str) -> str | None:
    """URI of the run of a checkpoint's folder, None for any other folder."""
    out, _, name = uri.rpartition(f"/{FOLDER}/")
    return out if out and _is_clock(name) else None


def _is_clock(name: str) -> bool:
    """Whether a checkpoint's folder may have this name: not a copy made by hand, such as 32 for 000000000032."""
    return name.isdecimal() and name == f"{int(name):0{_DIGITS}d}"


def _list_uris(out: str, after: int = -1) -> list[str]:
    """URIs of a run's checkpoints after this clock that have their state, newest first."""
    fs, path = storage.locate(storage.join(out, FOLDER))
    if not fs.exists(path):
        return []
    names = (str(entry).rstrip("/").rpartition("/")[2] for entry in fs.ls(path, detail=False))
    newest_first = sorted((int(name) for name in names if _is_clock(name) and int(name) > after), reverse=True)
    uris = [_make_uri(out, clock) for clock in newest_first]
    return [uri for uri in uris if storage.exists(storage.join(uri, STATE_FILE))]
