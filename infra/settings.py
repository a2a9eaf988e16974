"""What the environment decides: defaults for the libraries we stand on, the tracking server, the revision of our code.

In: environment variables. Out: plain values. No secret is stored or printed; keys of S3 are left to s3fs and its usual
AWS_* variables.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from infra.credentials import HOW_TO_LOG_IN, has_credentials, hide_credentials
from infra.uris import InvalidURIError

PROJECT_ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("pipelines", "nets", "jobs", "infra")
_TRACKING: Final = re.compile(r"(https?|(sqlite|postgresql|mysql|mssql)(\+\w+)?)://|databricks")

DEFAULTS: Final = {
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_oom_retries": "3",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "OMP_NUM_THREADS": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
}
"""Telemetry and update checks off, pickled models refused; a variable that the user has set wins.

What Ray's memory monitor kills it would start again without end, whatever `max_retries` says.
cuBLAS gives equal sums each time only with a workspace of fixed size. glibc keeps freed memory: tensors come and go
each step, and giving them back costs a tenth of a CPU training's time.
"""


def apply_defaults() -> None:
    """Puts the defaults into this process's environment, before any of the libraries is imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def tracking_uri() -> str:
    """The MLflow server: MLFLOW_TRACKING_URI, or a database in the folder one stands in.

    Raises InvalidURIError for another.

    A server's login stands elsewhere: MLflow prints the URI. A database has no other place for it.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    if not (_TRACKING.match(uri) or entry_points(group="mlflow.tracking_store", name=uri.partition(":")[0])):
        raise InvalidURIError(
            f"MLFLOW_TRACKING_URI is {hide_credentials(uri)}: give http://HOST:PORT or https://HOST of a server, "
            "sqlite:///FILE, or another database's URI"
        )
    if uri.startswith("http") and has_credentials(uri):
        raise InvalidURIError(f"MLFLOW_TRACKING_URI holds a login, and MLflow prints it: {HOW_TO_LOG_IN}")
    return uri


def hide_credentials(uri: str) -> str:
    """The URI as it may be shown: without the name and password that may stand before its host."""
    return hide_credentials(uri)


def source_files() -> list[Path]:
    """Our Python modules, sorted: what the revision covers and what a job takes along, and nothing else.

    Names that Python cannot import are none; folders behind symbolic links are not entered.
    """
    found = (path for package in PACKAGES for path in (PROJECT_ROOT / package).rglob("*.py"))
    return sorted(path for path in found if path.is_file() and _is_module(path.relative_to(PROJECT_ROOT)))


def _is_module(path: Path) -> bool:
    return all(part.isidentifier() for part in path.with_suffix("").parts)


@cache
def code_revision() -> str:
    """`source:<digest>` over all our Python files, the same in a checkout, a wheel and a job's working directory.

    As they were when this process first asked: files that change later are not what it runs.
    """
    return revision_of({str(path.relative_to(PROJECT_ROOT)): path.read_bytes() for path in source_files()})


def revision_of(sources: Mapping[str, bytes]) -> str:
    """`source:<digest>` over files by their names, sorted."""
    digest = hashlib.sha256()
    for name, data in sources.items():
        digest.update(name.encode() + b"\0" + data + b"\0")
    return f"source:{digest.hexdigest()[:16]}"


def git_commit() -> str | None:
    """The commit of the checkout that the code runs from, `-dirty` behind it if files differ; None outside one."""
    describe = ["git", "-C", str(PROJECT_ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
