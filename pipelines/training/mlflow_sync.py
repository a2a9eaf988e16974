"""What the tracking server is told of a training: its state, curves and pictures, all of it from what is on disk.

The server may be away at any time, at the start too: what it has not is told the next time, each point once.
"""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from infra import storage
from infra.settings import hide_credentials
from infra.tracking_faults import LoginError
from pipelines.checkpoints import find_newest_clock
from pipelines.training.mlflow_sync import read_points
from pipelines.training.run import TrainRun, is_superseded
from pipelines.training.validation import DRAWS, FILLS, MAPS

if TYPE_CHECKING:
    from infra.tracking import Status, Tracking

_SHEETS: Final = (FILLS, MAPS, DRAWS)

log = logging.getLogger(__name__)


class MlflowSync:
    """Brings the MLflow run of a training up to its last commit, whenever the server answers."""

    def __init__(self, run: TrainRun, warn: Callable[[str], None] = log.warning) -> None:
        self._run, self._warn, self._since_ms = run, warn, time.time() * 1000
        self._opened: tuple[Tracking, str] | None = None
        self._begun = False

    def tell(self, status: "Status | None" = None) -> None:
        """Tells the run's state if given, and what the server lacks; makes the MLflow run where there is none.

        The state goes first: who is killed has little time to say so. A server that is out of reach, or does not take
        it all, is a warning and never a fault. Without a state the first call that gets through says RUNNING, where
        whoever launched the training could not; the state of one whose place another command has taken is that one's
        to tell. Raises LoginError for RUNNING, with which a training begins, where the server does not let it in.
        """
        if not self._run.tracking_uri:
            return
        try:
            self._tell(status)
        except LoginError as fault:
            if status == "RUNNING":
                raise
            self._warn(f"the tracking server was not told all of the training: {fault}; all is in {self._run.out}")
        except Exception as fault:  # noqa: BLE001 - MLflow, its database and its stores raise whatever they like
            problem = f"the tracking server at {self._run.tracking_uri} was not told all of the training: {fault}"
            self._warn(
                f"{hide_credentials(problem)}; all is in {self._run.out}, and told at the next checkpoint at which the "
                "server is there, or by the same command"
            )

    def _tell(self, status: "Status | None") -> None:
        begins = status is None and not self._begun
        self._opened = tracking, run_id = self._opened or self._open()
        if begins or status == "RUNNING":
            tracking.set_tags(run_id, self._run.tags)
        if begins:
            tracking.set_status(run_id, "RUNNING", self._since_ms)
        elif status is not None and not self._is_anothers():
            tracking.set_status(run_id, status)
        self._begun = True
        points = read_points(self._run.out, tracking.get_last_step(run_id))
        tracking.log_points(run_id, [(p["images_seen"], p["unix_ms"], p["values"]) for p in points])
        for folder in _SHEETS:
            self._tell_sheets(tracking, run_id, folder)

    def _is_anothers(self) -> bool:
        """As far as the run's place can be read."""
        try:
            return is_superseded(self._run)
        except Exception as fault:  # noqa: BLE001 - a store's, and maybe what ended the training
            log.warning("whether another command trains at %s is not known: %s", self._run.out, fault)
            return False

    def _open(self) -> "tuple[Tracking, str]":
        from infra.tracking import Tracking  # takes seconds to import: only where it is wanted

        tracking = Tracking(self._run.tracking_uri)
        run_id = tracking.open_run(self._run.run_id, self._run.recipe.name, self._run.recipe.as_json(), self._run.tags)
        tracking.log_inputs(run_id, self._run.inputs)
        return tracking, run_id

    def _tell_sheets(self, tracking: "Tracking", run_id: str, folder: str) -> None:
        """Those of all commits so far that the server has not."""
        place, newest = storage.join(self._run.out, folder), f"{find_newest_clock(self._run.out):012d}.png"
        names = {name for name, _ in storage.list_files(place)} if storage.exists(place) else set[str]()
        there = {path.rpartition("/")[2] for path in tracking.list_files(run_id, folder)} if names else set[str]()
        for name in sorted(names - there):
            if name <= newest:
                tracking.log_file(run_id, folder, name, storage.read_bytes(storage.join(place, name)))
