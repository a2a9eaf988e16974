"""MLflow: runs, curves, pictures, model versions and aliases. The only file that talks to its server.

In: plain values, files and URIs. Out: identifiers. One logical run is found again by its tag `lacuna.run`, whatever the
number of attempts; a point of a curve is written once, because points go up in order and the server knows the last.
"""

import json
import logging
import math
import re
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast
from urllib.parse import unquote, urlsplit

import mlflow
import numpy as np
from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from infra.credentials import load_secrets
from infra.settings import hide_credentials
from infra.tracking_faults import ExplainedCalls, TrackingError, explain_faults
from infra.tracking_values import example_input, flatten, spell

EXPERIMENT: Final = "lacuna"
RUN_TAG: Final = "lacuna.run"
CLOCK_METRIC: Final = "images_per_second"
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
_MAX_BATCH: Final = 900
"""Of metrics in one request; the clock's is the last of a point, so that a point that the server knows is whole."""
_MAX_DIGEST_CHARACTERS: Final = 36
_MAX_PARAM_CHARACTERS: Final = 6000
_LOGIN_SECONDS: Final = 5
_VERSION_URI: Final = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<number>[0-9]+))")

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Version:
    """A registered model version."""

    name: str
    number: str
    run_id: str
    tags: dict[str, str]

    @property
    def uri(self) -> str:
        """What MLflow loads it by."""
        return f"models:/{self.name}/{self.number}"


class Tracking:
    """A client of one tracking server or database; raises LoginError or TrackingError for what that refuses."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        load_secrets()
        _make_database(uri)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        self._client = cast("MlflowClient", ExplainedCalls(MlflowClient(uri, uri), uri))

    def open_run(self, logical_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """The MLflow run of a logical run, made with the tags if it is not there; returns MLflow's id of it."""
        experiment = self._experiment()
        found = self._runs_of(experiment, logical_id)
        if not found:
            self._client.create_run(experiment, run_name=name, tags={**tags, RUN_TAG: logical_id})
            found = self._runs_of(experiment, logical_id)
        for extra in found[1:]:
            if not extra.data.metrics:
                self._client.delete_run(extra.info.run_id)
        run_id = str(found[0].info.run_id)
        flat = [Param(key, spell(value)[:_MAX_PARAM_CHARACTERS]) for key, value in flatten(params).items()]
        self._client.log_batch(run_id, params=flat)
        return run_id

    def _runs_of(self, experiment: str, logical_id: str) -> list[Run]:
        """All MLflow runs of a logical run, the one that counts first.

        There are several where an answer was lost: MLflow's client asks again, and the server makes another.
        """
        found = self._client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{logical_id}'")
        return sorted(found, key=lambda run: (not run.data.metrics, run.info.start_time, run.info.run_id))

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Sets tags of a run."""
        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def log_inputs(self, run_id: str, inputs: Sequence[tuple[str, str, str]]) -> None:
        """Notes what a run was made from, as (name, SHA-256, URI); what is there already is there once."""
        sources = [
            Dataset(name, digest[:_MAX_DIGEST_CHARACTERS], "uri", json.dumps({"uri": uri, "sha256": digest}))
            for name, digest, uri in inputs
        ]
        self._client.log_inputs(run_id, datasets=[DatasetInput(source) for source in sources])

    def set_status(self, run_id: str, status: Status, unless_ended_after_ms: float = math.inf) -> None:
        """Says what the run is doing, or how it ended; one that has ended so already keeps the time at which it did.

        So does one whose end was told after this moment, in ms since 1970.
        """
        there = self._client.get_run(run_id).info
        if there.status == status or (there.end_time or 0) > unless_ended_after_ms:
            return
        if status == "RUNNING":
            self._client.update_run(run_id, status)
        else:
            self._client.set_terminated(run_id, status)

    def last_step(self, run_id: str) -> int:
        """The step of the newest point that the server has; -1 where it has none."""
        return max((m.step for m in self._client.get_metric_history(run_id, CLOCK_METRIC)), default=-1)

    def log_points(self, run_id: str, points: Sequence[tuple[int, int, Mapping[str, float]]]) -> None:
        """Writes (step, time in ms, values) points in order, those that the server already has left out.

        A point that the server took without saying so is sent again: as its time is the same, it is there once.
        """
        last = self.last_step(run_id)
        for step, time_ms, values in points:
            if step > last:
                last = step
                metrics = [Metric(key, value, time_ms, step) for key, value in values.items() if key != CLOCK_METRIC]
                metrics.append(Metric(CLOCK_METRIC, values[CLOCK_METRIC], time_ms, step))
                for start in range(0, len(metrics), _MAX_BATCH):
                    self._client.log_batch(run_id, metrics=metrics[start : start + _MAX_BATCH])

    def log_file(self, run_id: str, folder: str, name: str, data: bytes) -> None:
        """Stores a file among the run's artifacts, over an older one of that name."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / name
            path.write_bytes(data)
            self._client.log_artifact(run_id, str(path), folder)

    def files(self, run_id: str, folder: str) -> list[str]:
        """Paths of what is in a folder of the run's artifacts."""
        return [str(found.path) for found in self._client.list_artifacts(run_id, folder)]

    def log_model(
        self,
        run_id: str,
        code: Path,
        files: Mapping[str, str],
        *,
        packages: Sequence[Path],
        shapes: Mapping[str, Sequence[int]],
        params: Mapping[str, int],
        requirements: Sequence[str],
        config: Mapping[str, str],
        has_optional_inputs: bool,
        metadata: Mapping[str, Any],
    ) -> str:
        """Stores a pyfunc made from a code file, other files and packages of ours; returns the model's URI.

        `shapes` are those of its uint8 inputs by name and of its `output`, -1 for any length; `params` are whole
        numbers and `config` words for `load_model`, with their defaults. With `has_optional_inputs`, for which MLflow's
        tensors have no sign, the model itself checks what it is given.
        """
        status = self._client.get_run(run_id).info.status
        try:
            with explain_faults(self.uri), mlflow.start_run(run_id=run_id):
                info = mlflow.pyfunc.log_model(
                    name="generator",
                    python_model=str(code),
                    artifacts=dict(files),
                    code_paths=[str(package) for package in packages],
                    signature=_signature(shapes, params, has_optional_inputs),
                    input_example=example_input(shapes),
                    model_config=dict(config),
                    pip_requirements=list(requirements),
                    metadata=dict(metadata),
                )
        finally:
            self._client.update_run(run_id, status)  # `start_run` has called it finished, or failed
        return str(info.model_uri)

    def create_version(self, name: str, source: str, run_id: str, tags: Mapping[str, str]) -> Version:
        """Registers a stored model as the next version of a name, its tags set with it."""
        try:
            self._client.create_registered_model(name)
        except TrackingError as fault:
            if fault.code != "RESOURCE_ALREADY_EXISTS":
                raise
        model_id = source.removeprefix("models:/") if source.startswith("models:/m-") else None
        made = self._client.create_model_version(name, source, run_id=run_id, tags=dict(tags), model_id=model_id)
        return self.version(name, str(made.version))

    def version(self, name: str, number: str) -> Version:
        """One version; raises FileNotFoundError naming what there is instead."""
        for version in self.versions(name):
            if version.number == number:
                return version
        numbers = ", ".join(v.number for v in self.versions(name)) or "none"
        raise FileNotFoundError(
            f"no version {number} of model {name!r} at {hide_credentials(self.uri)}: its versions are {numbers}"
        )

    def versions(self, name: str) -> list[Version]:
        """All versions of a name, oldest first; empty where the name is unknown."""
        found = self._client.search_model_versions(f"name = '{name}'")
        return sorted((_version(v) for v in found), key=lambda v: int(v.number))

    def find_alias(self, name: str, alias: str) -> Version | None:
        """The version that the alias points at, None where there is no such alias or model."""
        try:
            found = self._client.get_model_version_by_alias(name, alias)
        except TrackingError as fault:
            if fault.code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return self.version(name, str(found.version))

    def find_version(self, uri: str) -> Version:
        """The version that models:/NAME/NUMBER or models:/NAME@ALIAS means now; raises FileNotFoundError for none."""
        asked = _VERSION_URI.fullmatch(uri)
        if asked is None:
            raise FileNotFoundError(f"{uri} names no version: give models:/NAME/NUMBER or models:/NAME@ALIAS")
        if asked["number"] is not None:
            return self.version(asked["name"], asked["number"])
        found = self.find_alias(asked["name"], asked["alias"])
        if found is None:
            raise FileNotFoundError(
                f"no version of model {asked['name']!r} at {hide_credentials(self.uri)} has the alias "
                f"{asked['alias']!r}: give models:/{asked['name']}/NUMBER, or promote one"
            )
        return found

    def delete_version(self, version: Version) -> bool:
        """Deletes a version that has no alias; whether it is deleted."""
        aliases = self._client.get_registered_model(version.name).aliases
        if version.number in map(str, aliases.values()):
            return False
        self._client.delete_model_version(version.name, version.number)
        return True

    def move_alias(self, name: str, alias: str, number: str) -> None:
        """Points the alias at the version."""
        self._client.set_registered_model_alias(name, alias, number)

    def tag_version(self, version: Version, tags: Mapping[str, str]) -> None:
        """Sets tags of a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(version.name, version.number, key, value)

    def download(self, version: Version, folder: Path) -> Path:
        """Copies all files of a version into the folder; raises OSError where some are missing."""
        return self.download_model(version.uri, folder)

    def download_model(self, uri: str, folder: Path) -> Path:
        """Copies all files of a stored model into the folder; raises OSError where some are missing."""
        try:
            with explain_faults(self.uri):
                return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder), tracking_uri=self.uri))
        except (TrackingError, OSError) as fault:
            raise OSError(f"could not download the files of {uri}: {fault}") from None

    def local_folder(self, version: Version) -> Path | None:
        """Where this machine's own disk holds the files of a version; None where a server has them."""
        uri = str(self._client.get_model_version_download_uri(version.name, version.number))
        place = urlsplit(uri)
        return Path(unquote(place.path)) if place.scheme in ("", "file") else None

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(EXPERIMENT, artifact_location=_artifacts_beside(self.uri)))
        except TrackingError as fault:
            if fault.code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._experiment()  # another process made it in this moment


def require_login(uri: str) -> None:
    """Raises LoginError where a server does not let the caller see our experiment; one that is out of reach passes."""
    if not uri.startswith("http"):
        return
    load_secrets()
    endpoint, asked = "/api/2.0/mlflow/experiments/get-by-name", {"experiment_name": EXPERIMENT}
    brief: dict[str, Any] = {"max_retries": 0, "timeout": _LOGIN_SECONDS, "raise_on_status": False}
    try:
        with explain_faults(uri):
            http_request(get_default_host_creds(uri), endpoint, "GET", params=asked, **brief).raise_for_status()
    except TrackingError:  # trainings do not wait for their server, and it may not have the experiment yet
        return


def load_model(folder: Path, config: Mapping[str, str]) -> Any:
    """The pyfunc whose files lie in the folder, pickle disallowed; its own code runs in this process.

    `config` sets what it lets be set, and nothing where it lets nothing be set.
    """
    return mlflow.pyfunc.load_model(str(folder), model_config=dict(config))


def _signature(
    shapes: Mapping[str, Sequence[int]], params: Mapping[str, int], has_optional_inputs: bool
) -> ModelSignature:
    levels = np.dtype(np.uint8)
    inputs = Schema([TensorSpec(levels, tuple(s), name) for name, s in shapes.items() if name != "output"])
    numbers = ParamSchema([ParamSpec(name, "long", default) for name, default in params.items()])
    return ModelSignature(
        None if has_optional_inputs else inputs, Schema([TensorSpec(levels, tuple(shapes["output"]))]), numbers
    )


def _version(version: ModelVersion) -> Version:
    return Version(version.name, str(version.version), str(version.run_id), dict(version.tags))


def _make_database(uri: str) -> None:
    """Makes a database in a file aside and whole: a process killed in MLflow's migrations would leave it unusable."""
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".aside-{secrets.token_hex(6)}-{path.name}")
    MlflowClient(f"sqlite:///{aside}", f"sqlite:///{aside}").search_experiments(max_results=1)
    if path.exists():  # another process was faster
        aside.unlink()
    else:
        aside.replace(path)


def _artifacts_beside(uri: str) -> str | None:
    """For a database in a file: a folder beside it, wherever one stands. Servers know their own place."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts").as_uri()
