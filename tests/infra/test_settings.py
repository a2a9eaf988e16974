"""What the environment decides: the user's word wins, and the revision is that of our code and of nothing else."""

import os
import re
import shutil
from pathlib import Path

import pytest

from infra import settings
from infra.credentials import hide_credentials
from infra.settings import (
    DEFAULTS,
    MODULES,
    PACKAGES,
    PROJECT_ROOT,
    apply_defaults,
    compute_code_revision,
    get_tracking_uri,
    read_git_commit,
)
from infra.uris import InvalidURIError


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of our packages, from which the revision is read."""
    for package in PACKAGES:
        shutil.copytree(PROJECT_ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in MODULES:
        shutil.copy(PROJECT_ROOT / name, tmp_path)
    monkeypatch.setattr(settings, "PROJECT_ROOT", tmp_path)
    return tmp_path


def test_defaults_are_put_in_and_what_the_user_has_set_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    apply_defaults()
    assert {name: os.environ[name] for name in DEFAULTS} == DEFAULTS | {"OMP_NUM_THREADS": "7"}


def test_pickle_and_telemetry_are_off_by_default() -> None:
    assert DEFAULTS["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert DEFAULTS["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert DEFAULTS["RAY_USAGE_STATS_ENABLED"] == "0"
    assert DEFAULTS["NO_ALBUMENTATIONS_UPDATE"] == "1"
    assert all(isinstance(value, str) for value in DEFAULTS.values())


def test_the_tracking_server_is_the_environments_or_a_database_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert get_tracking_uri() == "http://tracking:5000"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert get_tracking_uri() == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert get_tracking_uri() == f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.mark.parametrize(
    "uri", ["http://me:pass4711@host:5000", "https://pass4711@host", "https://host/?token=pass4711"]
)
def test_a_login_in_a_servers_address_is_refused_and_not_shown(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow prints the address of every run."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InvalidURIError, match="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD") as refusal:
        get_tracking_uri()
    assert "4711" not in str(refusal.value)


def revision() -> str:
    """What a process that begins now calls its code."""
    compute_code_revision.cache_clear()
    return compute_code_revision()


def test_code_that_changes_later_is_not_what_a_process_runs(copied: Path) -> None:
    before = revision()
    (copied / "nets" / "losses.py").write_text("")
    assert compute_code_revision() == before
    assert revision() != before


def test_the_revision_is_the_same_wherever_the_code_lies(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = revision()
    monkeypatch.setattr(settings, "PROJECT_ROOT", PROJECT_ROOT)
    assert there == revision()
    assert re.fullmatch(r"source:[0-9a-f]{16}", there)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_revision_changes_with_every_byte_of_code(copied: Path, package: str) -> None:
    before = revision()
    victim = next(path for path in sorted((copied / package).rglob("*.py")) if path.stat().st_size)
    victim.write_bytes(victim.read_bytes() + b"\n")
    assert revision() != before


def test_the_revision_changes_with_the_public_module(copied: Path) -> None:
    before = revision()
    (copied / "lacuna.py").write_bytes((copied / "lacuna.py").read_bytes() + b"\n")
    assert revision() != before


def test_the_revision_changes_with_a_name_and_not_with_other_files(copied: Path) -> None:
    before = revision()
    (copied / "nets" / "notes.txt").write_text("no code")
    (copied / "README.md").write_text("no code")
    assert revision() == before
    (copied / "nets" / "losses.py").rename(copied / "nets" / "loss.py")
    assert revision() != before


def test_the_commit_is_known_in_a_checkout_and_only_there(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_git_commit() is None
    monkeypatch.setattr(settings, "PROJECT_ROOT", PROJECT_ROOT)
    if (PROJECT_ROOT / ".git").exists():
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", read_git_commit() or "")


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert read_git_commit() is None


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@host:5432/mlflow", "postgresql://host:5432/mlflow"),
        ("https://token@host/", "https://host/"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("sqlite:////folder/mlflow.db", "sqlite:////folder/mlflow.db"),
        ("cannot reach postgresql://me:secret@host and http://host", "cannot reach postgresql://host and http://host"),
    ],
)
def test_no_password_is_shown(uri: str, shown: str) -> None:
    assert hide_credentials(uri) == shown
