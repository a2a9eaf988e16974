"""The lock of a folder: a second process reads which one holds it, and it is free as soon as the holder ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.lock import LockedError, lock_folder
from infra.settings import PROJECT_ROOT

HOLD = """
import sys
from infra.lock import lock_folder
with lock_folder(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that nobody holds yet, and that is not there yet."""
    return tmp_path / "out"


@pytest.fixture
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder until its stdin is closed."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT_ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def free_within(folder: Path, seconds: float) -> bool:
    """Whether the folder can be held before that time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with lock_folder(str(folder)):
                return True
        except LockedError:
            time.sleep(0.02)
    return False


def test_a_second_process_reads_which_process_works_where_and_what_to_do(
    folder: Path, holder: subprocess.Popen[str]
) -> None:
    expected = f"process {holder.pid} works in {folder}: wait for its end, or give another --out"
    for _ in range(2):
        with pytest.raises(LockedError, match=expected), lock_folder(str(folder)):
            pytest.fail("two processes hold one folder")


def test_the_folder_is_free_when_its_holder_ends(folder: Path, holder: subprocess.Popen[str]) -> None:
    assert holder.stdin is not None
    holder.stdin.close()
    assert holder.wait(20) == 0
    assert free_within(folder, 1)


def test_the_folder_is_free_when_its_holder_is_killed(folder: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(20)
    assert free_within(folder, 1)


def test_other_folders_are_free(folder: Path, holder: subprocess.Popen[str]) -> None:
    assert free_within(folder.parent / "another", 0.5)


def test_one_process_does_not_hold_a_folder_twice(folder: Path) -> None:
    with lock_folder(str(folder)):
        with pytest.raises(LockedError, match=f"process {os.getpid()} works in"), lock_folder(str(folder)):
            pytest.fail("held twice")
        with pytest.raises(LockedError), lock_folder(f"file://{folder}"):
            pytest.fail("held twice, under another spelling")


def test_a_fault_in_the_block_frees_the_folder(folder: Path) -> None:
    with pytest.raises(KeyError), lock_folder(str(folder)):
        raise KeyError
    assert free_within(folder, 0.5)


def test_the_newest_holder_is_named(folder: Path) -> None:
    folder.mkdir()
    (folder / ".lock").write_text("99999999999 an older and longer text")
    with (
        lock_folder(str(folder)),
        pytest.raises(LockedError, match=rf"process {os.getpid()} works"),
        lock_folder(str(folder)),
    ):
        pytest.fail("held twice")


def test_object_stores_have_no_lock() -> None:
    with lock_folder("memory://lock/x"), lock_folder("memory://lock/x"):
        pass


def test_a_full_disk_is_named_with_the_file_of_the_lock(folder: Path) -> None:
    """A limit of the size of files stands for the full disk: both end the write of the holder's number."""
    full = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    full += "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    command = [sys.executable, "-c", full + HOLD, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT_ROOT, check=False, input="")
    assert done.returncode == 1
    assert f"no space to write {folder / '.lock'}: free some, then run the same command again" in done.stderr
