"""MLflow: runs, curves, pictures, model versions and aliases. The only module that calls its server.

In: plain values, files and URIs. Out: identifiers. A logical run is found again by its tag `lacuna.run`, whatever the
number of attempts. A point of a curve is written once: points are sent in order, and the server knows the last.
"""

import json
import logging
import math
import re
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, cast
from urllib.parse import unquote, urlsplit

import mlflow
import numpy as np
from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunTag
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from infra.credentials import hide_credentials, load_secrets
from infra.tracking_faults import ExplainedCalls, TrackingError, explain_faults
from infra.tracking_values import flatten, format_param, make_example_input

EXPERIMENT: Final = "lacuna"
RUN_TAG: Final = "lacuna.run"
CLOCK_METRIC: Final = "images_per_second"
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
_MAX_BATCH: Final = 900
"""Metrics in one request; the clock's is the last of a point, so that a point that the server knows is whole."""
_MAX_DIGEST_CHARACTERS: Final = 36
_MAX_PARAM_CHARACTERS: Final = 6000
_LOGIN_SECONDS: Final = 5
NO_MODEL_NAME: Final = re.compile(r"[/:@'\"`\\]|^\.{0,2}$")
"""MLflow takes no such name, or `models:/NAME/NUMBER` and its search do not find it again."""
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
        """URI by which MLflow loads it."""
        return f"models:/{self.name}/{self.number}"


class Tracking:
    """A client of one tracking server or database; its methods raise LoginError or TrackingError."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        load_secrets()
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)

    @cached_property
    def _client(self) -> MlflowClient:
        """Client, made with the database at the first call that needs it."""
        _make_database(self.uri)
        return cast("MlflowClient", ExplainedCalls(MlflowClient(self.uri, self.uri), self.uri))

    def open_run(self, logical_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Find the MLflow run of a logical run, or create it with the tags; return MLflow's id of it."""
        experiment = self._open_experiment()
        found = self._find_runs(experiment, logical_id)
        if not found:
            self._client.create_run(experiment, run_name=name, tags={**tags, RUN_TAG: logical_id})
            found = self._find_runs(experiment, logical_id)
        for extra in found[1:]:
            if not extra.data.metrics:
                self._client.delete_run(extra.info.run_id)
        run_id = str(found[0].info.run_id)
        flat = [Param(key, format_param(value)[:_MAX_PARAM_CHARACTERS]) for key, value in flatten(params).items()]
        self._client.log_batch(run_id, params=flat)
        return run_id

    def _find_runs(self, experiment: str, logical_id: str) -> list[Run]:
        """MLflow runs of a logical run, the valid one first.

        There are several if an answer was lost: MLflow's client repeats the request, and the server creates another.
        """
        found = self._client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{logical_id}'")
        return sorted(found, key=lambda run: (not run.data.metrics, run.info.start_time, run.info.run_id))

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def log_inputs(self, run_id: str, inputs: Sequence[tuple[str, str, str]]) -> None:
        """Record the inputs of a run, as (name, SHA-256, URI); repeated ones are recorded once."""
        sources = [
            Dataset(name, digest[:_MAX_DIGEST_CHARACTERS], "uri", json.dumps({"uri": uri, "sha256": digest}))
            for name, digest, uri in inputs
        ]
        self._client.log_inputs(run_id, datasets=[DatasetInput(source) for source in sources])

    def set_status(self, run_id: str, status: Status, unless_ended_after_ms: float = math.inf) -> None:
        """Set the status of a run; a run with that status keeps its end time.

        So does a run that ended after `unless_ended_after_ms`, in ms since 1970.
        """
        there = self._client.get_run(run_id).info
        if there.status == status or (there.end_time or 0) > unless_ended_after_ms:
            return
        if status == "RUNNING":
            self._client.update_run(run_id, status)
        else:
            self._client.set_terminated(run_id, status)

    def get_last_step(self, run_id: str) -> int:
        """Step of the newest point that the server has; -1 if it has none."""
        return max((m.step for m in self._client.get_metric_history(run_id, CLOCK_METRIC)), default=-1)

    def log_points(self, run_id: str, points: Sequence[tuple[int, int, Mapping[str, float]]]) -> None:
        """Write (step, time in ms, values) points in order, without those that the server has.

        A point whose answer was lost is sent again: as its time is the same, the server stores it once.
        """
        last = self.get_last_step(run_id)
        for step, time_ms, values in points:
            if step > last:
                last = step
                metrics = [Metric(key, value, time_ms, step) for key, value in values.items() if key != CLOCK_METRIC]
                metrics.append(Metric(CLOCK_METRIC, values[CLOCK_METRIC], time_ms, step))
                for start in range(0, len(metrics), _MAX_BATCH):
                    self._client.log_batch(run_id, metrics=metrics[start : start + _MAX_BATCH])

    def log_file(self, run_id: str, folder: str, name: str, data: bytes) -> None:
        """Store a file among the run's artifacts, over an older one of that name."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / name
            path.write_bytes(data)
            self._client.log_artifact(run_id, str(path), folder)

    def list_files(self, run_id: str, folder: str) -> list[str]:
        """Paths of the files in a folder of the run's artifacts."""
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
        scores: Mapping[str, float],
    ) -> str:
        """Store a pyfunc made of a code file, other files and our packages; return the model's URI.

        `shapes` are those of its uint8 inputs by name and of its `output`, -1 for any length. `params` are whole
        numbers and `config` text for `load_model`, with their defaults. With `has_optional_inputs`, which MLflow's
        tensors cannot express, the model itself checks its inputs. `scores` become metrics of the run and of the model.
        """
        status = self._client.get_run(run_id).info.status
        try:
            with explain_faults(self.uri), mlflow.start_run(run_id=run_id):
                info = mlflow.pyfunc.log_model(
                    name="generator",
                    python_model=str(code),
                    artifacts=dict(files),
                    code_paths=[str(package) for package in packages],
                    signature=_build_signature(shapes, params, has_optional_inputs),
                    input_example=make_example_input(shapes),
                    model_config=dict(config),
                    pip_requirements=list(requirements),
                    metadata=dict(metadata),
                )
                mlflow.log_metrics(dict(scores), run_id=run_id, model_id=info.model_id)
        finally:
            self._client.update_run(run_id, status)  # `start_run` has set it to finished or failed
        return str(info.model_uri)

    def create_version(self, name: str, source: str, run_id: str, tags: Mapping[str, str]) -> Version:
        """Register a stored model as the next version of a name, with tags."""
        try:
            self._client.create_registered_model(name)
        except TrackingError as fault:
            if fault.code != "RESOURCE_ALREADY_EXISTS":
                raise
        model_id = source.removeprefix("models:/") if source.startswith("models:/m-") else None
        version = self._client.create_model_version(name, source, run_id=run_id, tags=dict(tags), model_id=model_id)
        return self.get_version(name, str(version.version))

    def get_version(self, name: str, number: str) -> Version:
        """Version with this number; raises FileNotFoundError naming the existing ones."""
        versions = self.list_versions(name)
        for version in versions:
            if version.number == number:
                return version
        numbers = ", ".join(version.number for version in versions) or "none"
        raise FileNotFoundError(
            f"no version {number} of model {name!r} at {hide_credentials(self.uri)}: its versions are {numbers}"
        )

    def list_versions(self, name: str) -> list[Version]:
        """Versions of a name, oldest first; empty for a name that is unknown or impossible."""
        if NO_MODEL_NAME.search(name):
            return []
        found = self._client.search_model_versions(f"name = '{name}'")
        versions = (Version(v.name, str(v.version), str(v.run_id), dict(v.tags)) for v in found)
        return sorted(versions, key=lambda version: int(version.number))

    def find_alias(self, name: str, alias: str) -> Version | None:
        """Version that the alias points at, None if there is no such alias or model."""
        try:
            found = self._client.get_model_version_by_alias(name, alias)
        except TrackingError as fault:
            if fault.code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return self.get_version(name, str(found.version))

    def find_version(self, uri: str) -> Version:
        """Version that models:/NAME/NUMBER or models:/NAME@ALIAS means now; raises FileNotFoundError if none does."""
        asked = _VERSION_URI.fullmatch(uri)
        if asked is None:
            raise FileNotFoundError(f"{uri} names no version: give models:/NAME/NUMBER or models:/NAME@ALIAS")
        if asked["number"] is not None:
            return self.get_version(asked["name"], asked["number"])
        found = self.find_alias(asked["name"], asked["alias"])
        if found is None:
            raise FileNotFoundError(
                f"no version of model {asked['name']!r} at {hide_credentials(self.uri)} has the alias "
                f"{asked['alias']!r}: give models:/{asked['name']}/NUMBER, or promote one"
            )
        return found

    def delete_version(self, version: Version) -> bool:
        """Delete a version unless it has an alias, and return whether it is deleted."""
        aliases = self._client.get_registered_model(version.name).aliases
        if version.number in map(str, aliases.values()):
            return False
        self._client.delete_model_version(version.name, version.number)
        return True

    def move_alias(self, name: str, alias: str, number: str) -> None:
        """Point the alias at the version."""
        self._client.set_registered_model_alias(name, alias, number)

    def tag_version(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(version.name, version.number, key, value)

    def download(self, version: Version, folder: Path) -> Path:
        """Copy all files of a version into the folder; raise OSError if some are missing."""
        return self.download_model(version.uri, folder)

    def download_model(self, uri: str, folder: Path) -> Path:
        """Copy all files of a stored model into the folder; raise OSError if some are missing."""
        try:
            with explain_faults(self.uri):
                return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder), tracking_uri=self.uri))
        except (TrackingError, OSError) as fault:
            raise OSError(f"could not download the files of {uri}: {fault}") from None

    def find_local_folder(self, version: Version) -> Path | None:
        """Folder on this machine's disk with the files of a version; None if a server has them."""
        uri = str(self._client.get_model_version_download_uri(version.name, version.number))
        place = urlsplit(uri)
        return Path(unquote(place.path)) if place.scheme in ("", "file") else None

    def _open_experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(EXPERIMENT, artifact_location=_locate_artifacts(self.uri)))
        except TrackingError as fault:
            if fault.code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._open_experiment()  # another process has just created it


def require_login(uri: str) -> None:
    """Raise LoginError if the server refuses to show our experiment; pass if it is unreachable."""
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
    """Pyfunc from its files in the folder, without pickle; its own code runs in this process.

    `config` sets those of its options that the model has.
    """
    return mlflow.pyfunc.load_model(str(folder), model_config=dict(config))


def _build_signature(
    shapes: Mapping[str, Sequence[int]], params: Mapping[str, int], has_optional_inputs: bool
) -> ModelSignature:
    levels = np.dtype(np.uint8)
    inputs = Schema([TensorSpec(levels, tuple(s), name) for name, s in shapes.items() if name != "output"])
    numbers = ParamSchema([ParamSpec(name, "long", default) for name, default in params.items()])
    return ModelSignature(
        None if has_optional_inputs else inputs, Schema([TensorSpec(levels, tuple(shapes["output"]))]), numbers
    )


def _make_database(uri: str) -> None:
    """Create a database in a temporary file and rename it: a kill during MLflow's migrations would spoil it."""
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


def _locate_artifacts(uri: str) -> str | None:
    """Artifact folder beside a database file, wherever the process works; None for a server, which has its own."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts").as_uri()
