"""Settings from the environment: defaults for libraries, the tracking server, the revision of our code.

In: environment variables. Out: plain values. No secret is stored or printed; s3fs reads keys of S3 from its usual
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
MODULES: Final = ("lacuna.py",)
"""The public module beside the packages."""
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

Ray would restart tasks that its memory monitor kills without end, whatever `max_retries` says. cuBLAS needs a workspace
of fixed size for reproducible sums. glibc keeps freed memory: returning it each step costs a tenth of a CPU training.
"""


def apply_defaults() -> None:
    """Put the defaults into this process's environment; call it before the libraries are imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def get_tracking_uri() -> str:
    """URI of the MLflow server: MLFLOW_TRACKING_URI, or a database in the working folder.

    Raises InvalidURIError for any other URI, and for a server's URI with a login, as MLflow prints it. The URI of a
    database may hold one.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    if not (_TRACKING.match(uri) or entry_points(group="mlflow.tracking_store", name=uri.partition(":")[0])):
        raise InvalidURIError(
            f"MLFLOW_TRACKING_URI is {hide_credentials(uri)}: give http://HOST:PORT or https://HOST of a server, "
            "sqlite:///FILE, or the URI of another database"
        )
    if uri.startswith("http") and has_credentials(uri):
        raise InvalidURIError(f"MLFLOW_TRACKING_URI holds a login, and MLflow prints it: {HOW_TO_LOG_IN}")
    return uri


def list_source_files() -> list[Path]:
    """Our Python modules, sorted: the files that the revision covers and that a job gets.

    Files with names that Python cannot import are left out, and folders behind symbolic links are not entered.
    """
    found = [path for package in PACKAGES for path in (PROJECT_ROOT / package).rglob("*.py")]
    found += [PROJECT_ROOT / name for name in MODULES]
    return sorted(path for path in found if path.is_file() and _is_module(path.relative_to(PROJECT_ROOT)))


def _is_module(path: Path) -> bool:
    return all(part.isidentifier() for part in path.with_suffix("").parts)


@cache
def compute_code_revision() -> str:
    """`source:<digest>` over all our Python files, equal in a checkout, a wheel and a job's working folder.

    Read once per process: files that change later are not the ones it runs.
    """
    return compute_revision({str(path.relative_to(PROJECT_ROOT)): path.read_bytes() for path in list_source_files()})


def compute_revision(sources: Mapping[str, bytes]) -> str:
    """`source:<digest>` over files by name, in sorted order."""
    digest = hashlib.sha256()
    for name, data in sources.items():
        digest.update(name.encode() + b"\0" + data + b"\0")
    return f"source:{digest.hexdigest()[:16]}"


def read_git_commit() -> str | None:
    """Commit of the checkout that the code runs from, with `-dirty` if files differ; None outside a checkout."""
    describe = ["git", "-C", str(PROJECT_ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
