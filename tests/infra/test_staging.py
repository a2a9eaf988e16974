"""What is sent to a cluster: our Python files, those that the revision covers, and nothing else."""

import shutil
from pathlib import Path

import pytest

from infra import jobs, settings
from infra.jobs import stage_code
from infra.settings import MODULES, PACKAGES, PROJECT_ROOT, compute_code_revision
from infra.uris import InvalidURIError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of our packages, from which code is sent."""
    for package in PACKAGES:
        shutil.copytree(PROJECT_ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in MODULES:
        shutil.copy(PROJECT_ROOT / name, tmp_path)
    monkeypatch.setattr(settings, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr(jobs, "PROJECT_ROOT", tmp_path)
    compute_code_revision.cache_clear()
    return tmp_path


def read_staged() -> dict[str, bytes]:
    """What is sent, by name."""
    with stage_code() as folder:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if not p.is_dir()}


def test_our_python_files_are_sent_and_nothing_else(tree: Path) -> None:
    before = read_staged()
    assert before == {
        str(path.relative_to(PROJECT_ROOT)): path.read_bytes()
        for package in PACKAGES
        for path in (PROJECT_ROOT / package).rglob("*.py")
    } | {"lacuna.py": (PROJECT_ROOT / "lacuna.py").read_bytes()}
    (tree / "infra" / ".env").write_text("KEY=1")
    (tree / "infra" / "key.pem").write_text("KEY")
    (tree / "infra" / ".hidden.py").write_text("KEY = 1")
    (tree / "infra" / "no-module.py").write_text("KEY = 1")
    (tree / "infra" / ".aws").mkdir()
    (tree / "infra" / ".aws" / "keys.py").write_text("KEY = 1")
    (tree / "infra" / "folder.py").mkdir()
    (tree / "nets" / "blob.bin").write_bytes(bytes(1 << 20))
    (tree / "token").write_text("KEY")
    (tree / "infra" / "token").symlink_to(tree / "token")
    (tree / "infra" / "home").symlink_to(Path.home())
    (tree / "secrets.py").write_text("KEY = 1")
    compute_code_revision.cache_clear()
    assert read_staged() == before


def test_the_revision_is_that_of_what_is_sent(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    there = compute_code_revision()
    with stage_code() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "PROJECT_ROOT", folder)
        compute_code_revision.cache_clear()
        assert compute_code_revision() == there


def test_a_link_under_a_name_of_ours_is_refused(tree: Path) -> None:
    (tree / "token").write_text("KEY = 1")
    (tree / "infra" / "token.py").symlink_to(tree / "token")
    with pytest.raises(InvalidURIError, match=f"{tree}/infra/token.py is a symbolic link, and only files are sent"):
        read_staged()


def test_a_package_that_is_a_link_is_refused(tree: Path) -> None:
    (tree / "nets").rename(tree / "elsewhere")
    (tree / "nets").symlink_to(tree / "elsewhere")
    with pytest.raises(InvalidURIError, match=f"{tree}/nets is a symbolic link"):
        read_staged()


def test_large_files_are_refused(tree: Path) -> None:
    (tree / "nets" / "table.py").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(InvalidURIError, match=f"{tree}/nets/table.py has 1048577 bytes, more than 1048576"):
        read_staged()


def test_much_code_is_refused(tree: Path) -> None:
    for number in range(8):
        (tree / "nets" / f"table{number}.py").write_bytes(b"#" * (1 << 20))
    with pytest.raises(InvalidURIError, match="more than 8388608: remove what is not code"):
        read_staged()


def test_code_that_changes_meanwhile_is_not_sent_under_the_old_revision(tree: Path) -> None:
    compute_code_revision()
    (tree / "nets" / "losses.py").write_text("")
    with pytest.raises(InvalidURIError, match="changed since the start: run the same command again"):
        read_staged()
