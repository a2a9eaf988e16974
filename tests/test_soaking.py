"""`make soak` goes on where it was interrupted: the plugin tests.soaking on small tests in a checkout of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import PROJECT_ROOT

pytestmark = pytest.mark.thorough

TESTS = """
import os, signal
import pytest

@pytest.fixture
def leaving():
    yield
    assert os.environ.get("FATE") != "leaving"

def test_first():
    pass

@pytest.mark.parametrize("number", [1, 2])
def test_numbers(number):
    pass

def test_fatal():
    if os.environ.get("FATE") == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.environ.get("FATE") != "call"

def test_leaving(leaving):
    pass

def test_elsewhere():
    if os.environ.get("FATE") == "skip":
        pytest.skip()
"""
QUICK = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
ALL = ["test_first", "test_numbers[1]", "test_numbers[2]", "test_fatal", "test_leaving", "test_elsewhere"]


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def commit(folder: Path) -> None:
    """Everything that lies there."""
    git(folder, "add", "--all")
    git(folder, "commit", "--message", "tests")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clean one of the small tests."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "test_small.py").write_text(TESTS)
    (folder / ".gitignore").write_text(".soak/\n.pytest_cache/\n__pycache__/\n")
    git(folder, "init")
    commit(folder)
    return folder


def soak(checkout: Path, fate: str = "", kills: str = "20") -> tuple[int, list[str], str]:
    """The tests as `make soak` runs them: exit code, those that were run, all that was printed."""
    command = [sys.executable, "-m", "pytest", "-p", "tests.soaking", "-v", "--color=no", "--rootdir", str(checkout)]
    mine = {"PYTHONPATH": str(PROJECT_ROOT), "FATE": fate, "LACUNA_SOAK_KILLS": kills, **QUICK}
    done = subprocess.run(command, cwd=checkout, env=os.environ | mine, capture_output=True, text=True, check=False)
    run = [
        line.split()[0].partition("::")[2] for line in done.stdout.splitlines() if line.startswith("test_small.py::")
    ]
    return done.returncode, list(dict.fromkeys(run)), done.stdout


def test_after_a_kill_the_tests_that_passed_are_left_out(checkout: Path) -> None:
    assert soak(checkout, "kill")[:2] == (-signal.SIGKILL, ALL[:4])
    code, run, output = soak(checkout)
    assert (code, run) == (0, ALL[3:])
    assert "soak: 3 tests left out that have passed by .soak/" in output


def test_with_nothing_left_the_end_is_a_good_one(checkout: Path) -> None:
    assert soak(checkout)[:2] == (0, ALL)
    code, run, output = soak(checkout)
    assert (code, run) == (0, [])
    assert "soak: 6 tests left out" in output


@pytest.mark.parametrize(("fate", "failed"), [("call", "test_fatal"), ("leaving", "test_leaving")])
def test_a_test_that_failed_is_run_again(checkout: Path, fate: str, failed: str) -> None:
    assert soak(checkout, fate)[:2] == (1, ALL)
    assert soak(checkout)[:2] == (0, [failed])


def test_a_test_that_was_skipped_is_run_again(checkout: Path) -> None:
    assert soak(checkout, "skip")[:2] == (0, ALL)
    assert soak(checkout)[:2] == (0, ["test_elsewhere"])


def test_other_numbers_are_other_tests(checkout: Path) -> None:
    for kills in ("20", "50"):
        assert soak(checkout, kills=kills)[:2] == (0, ALL)
    assert soak(checkout, kills="20")[:2] == (0, [])


def test_another_commit_has_passed_nothing(checkout: Path) -> None:
    assert soak(checkout)[:2] == (0, ALL)
    (checkout / "more").touch()
    commit(checkout)
    assert soak(checkout)[:2] == (0, ALL)


@pytest.mark.parametrize("name", ["test_small.py", "new.py"])
def test_a_tree_that_is_not_its_commit_notes_nothing_and_leaves_nothing_out(checkout: Path, name: str) -> None:
    for changed in (True, False, True):
        with (checkout / name).open("a") as file:
            file.write("# changed\n" * changed)
        if not changed:
            git(checkout, "clean", "--force")
        code, run, output = soak(checkout)
        assert (code, run) == (0, ALL)
        assert ("soak: the working tree is not that of a commit" in output) == changed
        git(checkout, "stash", "--include-untracked")


def test_a_tree_that_changes_meanwhile_notes_nothing_from_there_on(checkout: Path) -> None:
    with (checkout / "test_small.py").open("a") as file:
        file.write("\ndef test_last():\n    open('here', 'w').close()\n")
    commit(checkout)
    assert soak(checkout)[:2] == (0, [*ALL, "test_last"])
    (checkout / "here").unlink()
    assert soak(checkout)[:2] == (0, ["test_last"])
