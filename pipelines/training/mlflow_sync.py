"""Copies a training to its tracking server: state, curves and sheets, all of it from the files of the run.

The server may be away at any time, at the start too: a later call sends what it lacks, each point once. Points choose
the best checkpoint and the end of a training that stops early, so each file of them is sealed.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from infra import storage
from infra.credentials import hide_credentials
from infra.tracking_faults import LoginError
from pipelines.checked_files import seal, unseal
from pipelines.checkpoints import find_newest_clock
from pipelines.records import CorruptDataError
from pipelines.training.run import TrainRun, is_superseded
from pipelines.training.validation import DRAWS, FILLS, MAPS

if TYPE_CHECKING:
    from infra.tracking import Status, Tracking

_SHEETS: Final = (FILLS, MAPS, DRAWS)

log = logging.getLogger(__name__)


def read_points(out: str, after: int = 0, until: int | None = None) -> list[dict[str, Any]]:
    """Committed points of a run after a clock, up to another or to its newest checkpoint, in order.

    Raises CorruptDataError naming a file that does not hold points.
    """
    newest, last, points = find_newest_clock(out) if until is None else until, after, []
    if not newest:
        return []
    for name in sorted(name for name, _ in storage.list_files(storage.join(out, "metrics"))):
        if after < int(name.removesuffix(".json")) <= newest:
            found = _parse_points(storage.join(out, "metrics", name))
            points += [point for point in found if point["images_seen"] > last]
            last = points[-1]["images_seen"]
    return points


def format_points(points: Sequence[dict[str, Any]]) -> bytes:
    """Sealed file of the points that lead up to one checkpoint."""
    return seal({"points": list(points)})


def _parse_points(uri: str) -> list[dict[str, Any]]:
    data = storage.read_bytes(uri)
    try:
        return list(unseal(data, uri)["points"])
    except (KeyError, CorruptDataError):
        raise CorruptDataError(f"{uri} is no list of points: restore it, or remove it and lose those points") from None


class MlflowSync:
    """Brings the MLflow run of a training up to its last commit, whenever the server answers."""

    def __init__(self, run: TrainRun, warn: Callable[[str], None] = log.warning) -> None:
        self._run, self._warn, self._since_ms = run, warn, time.time() * 1000
        self._opened: tuple[Tracking, str] | None = None
        self._begun = False

    def sync(self, status: "Status | None" = None) -> None:
        """Send the run's status if given, and all that the server lacks; makes the MLflow run where there is none.

        The status goes first: a process that is killed has little time. A server that is out of reach, or refuses some
        of it, is a warning and never an error. Without a status the first call that gets through sends RUNNING, where
        the launching process could not. Where another command has taken the place of this run, the status is that
        command's to send. Raises LoginError for RUNNING, with which a training begins, where the login is refused.
        """
        if not self._run.tracking_uri:
            return
        try:
            self._sync(status)
        except LoginError as fault:
            if status == "RUNNING":
                raise
            self._warn(f"the tracking server does not have all of the training: {fault}; all is in {self._run.out}")
        except Exception as fault:  # noqa: BLE001 - MLflow, its database and its stores raise whatever they like
            uri = self._run.tracking_uri
            problem = f"the tracking server at {uri} does not have all of the training: {fault}"
            self._warn(
                f"{hide_credentials(problem)}; all is in {self._run.out}, and goes there at the next checkpoint at "
                "which the server answers, or by the same command"
            )

    def _sync(self, status: "Status | None") -> None:
        # Open the run, set its tags and its status.
        begins = status is None and not self._begun
        self._opened = tracking, run_id = self._opened or self._open()
        if begins or status == "RUNNING":
            tracking.set_tags(run_id, self._run.tags)
        if begins:
            tracking.set_status(run_id, "RUNNING", self._since_ms)
        elif status is not None and not self._is_superseded():
            tracking.set_status(run_id, status)
        self._begun = True
        # Send points and sheets that the server lacks.
        points = read_points(self._run.out, tracking.get_last_step(run_id))
        tracking.log_points(run_id, [(p["images_seen"], p["unix_ms"], p["values"]) for p in points])
        for folder in _SHEETS:
            self._send_sheets(tracking, run_id, folder)

    def _is_superseded(self) -> bool:
        """Whether another command trains at the run's place; False where that cannot be read."""
        try:
            return is_superseded(self._run)
        except Exception as fault:  # noqa: BLE001 - a store's, and maybe the one that ended the training
            log.warning("cannot read whether another command trains at %s: %s", self._run.out, fault)
            return False

    def _open(self) -> "tuple[Tracking, str]":
        from infra.tracking import Tracking  # takes seconds to import: only where there is a server

        tracking = Tracking(self._run.tracking_uri)
        run_id = tracking.open_run(self._run.run_id, self._run.recipe.name, self._run.recipe.as_json(), self._run.tags)
        tracking.log_inputs(run_id, self._run.inputs)
        return tracking, run_id

    def _send_sheets(self, tracking: "Tracking", run_id: str, folder: str) -> None:
        """Send the sheets of all commits so far that the server lacks."""
        uri, newest = storage.join(self._run.out, folder), f"{find_newest_clock(self._run.out):012d}.png"
        names = {name for name, _ in storage.list_files(uri)} if storage.exists(uri) else set[str]()
        there = {path.rpartition("/")[2] for path in tracking.list_files(run_id, folder)} if names else set[str]()
        for name in sorted(names - there):
            if name <= newest:
                tracking.log_file(run_id, folder, name, storage.read_bytes(storage.join(uri, name)))
