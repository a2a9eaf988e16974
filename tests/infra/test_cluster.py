"""Ray tasks through our own interface: every result once, faults as themselves, lost workers retried, little ahead."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from infra.cluster import TaskLostError, connect_ray, format_task_name, run_tasks
from infra.settings import PROJECT_ROOT
from pipelines.records import CorruptDataError, UsageError
from tests.making import lacuna, photo_folder

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("ray_cluster")]


@pytest.mark.parametrize("count", [0, 1, 7, 50])
def test_every_argument_has_its_result_once(count: int) -> None:
    def square(number: int) -> int:
        return number * number

    assert sorted(run_tasks(square, [(n,) for n in range(count)])) == [n * n for n in range(count)]


def test_tasks_take_several_arguments_and_run_elsewhere() -> None:
    def describe(word: str, number: int) -> tuple[str, int, int]:
        return word, number, os.getpid()

    (result,) = run_tasks(describe, [("x", 3)])
    assert result[:2] == ("x", 3)
    assert result[2] != os.getpid()


def test_quick_results_do_not_wait_for_slow_ones() -> None:
    def sleep(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    assert list(run_tasks(sleep, [(1.5,), (0.0,), (0.1,)]))[-1] == 1.5


@pytest.mark.parametrize(
    "fault",
    [
        ValueError("a value"),
        UsageError("a bad argument"),
        CorruptDataError("a file"),
        OSError(28, "no space", "/x"),
        KeyError(3),
    ],
)
def test_an_exception_is_raised_as_itself(fault: Exception) -> None:
    def fail(_: int) -> int:
        raise fault

    with pytest.raises(type(fault)) as caught:
        list(run_tasks(fail, [(n,) for n in range(5)]))
    assert type(caught.value) is type(fault)
    assert str(caught.value) == str(fault)


def test_a_traceback_names_the_line_of_the_task() -> None:
    def read_label(number: int) -> str:
        return {"a": "b"}["label of " + str(number)]

    with pytest.raises(KeyError) as fault:
        list(run_tasks(read_label, [(7,)]))
    text = "".join(traceback.format_exception(fault.value))
    assert "in read_label" in text
    assert "test_cluster.py" in text


def test_results_before_the_fault_have_been_handed_out() -> None:
    def fail_late(number: int) -> int:
        if number == 1:
            time.sleep(1)
            raise ValueError("the second one")
        return number

    results = run_tasks(fail_late, [(0,), (1,)])
    assert next(results) == 0
    with pytest.raises(ValueError, match="the second one"):
        next(results)


def test_a_worker_that_dies_once_is_tried_again(tmp_path: Path) -> None:
    def die_once(folder: str, number: int) -> int:
        marker = Path(folder) / str(number)
        if number == 2 and not marker.exists():
            marker.touch()
            os._exit(1)
        return number

    assert sorted(run_tasks(die_once, [(str(tmp_path), n) for n in range(4)])) == [0, 1, 2, 3]
    assert (tmp_path / "2").exists()


def test_a_broken_connection_is_tried_again(tmp_path: Path) -> None:
    def break_once(folder: str) -> str:
        marker = Path(folder) / "broken"
        if not marker.exists():
            marker.touch()
            raise ConnectionResetError("by peer")
        return "done"

    assert list(run_tasks(break_once, [(str(tmp_path),)])) == ["done"]


def test_other_faults_are_not_tried_again(tmp_path: Path) -> None:
    def fail(folder: str) -> None:
        (Path(folder) / f"{time.time_ns()}").touch()
        raise ValueError("always")

    with pytest.raises(ValueError, match="always"):
        list(run_tasks(fail, [(str(tmp_path),)]))
    assert len(list(tmp_path.iterdir())) == 1


def test_arguments_are_taken_only_as_fast_as_results_come() -> None:
    def same(number: int) -> int:
        return number

    taken = []

    def arguments() -> Iterator[tuple[int]]:
        for number in range(500):
            taken.append(number)
            yield (number,)

    results = run_tasks(same, arguments())
    assert taken == []
    next(results)
    assert len(taken) < 100
    assert len(list(results)) == 499


def test_connecting_again_inside_changes_nothing() -> None:
    def one() -> int:
        return 1

    with connect_ray():
        assert list(run_tasks(one, [()])) == [1]
    assert list(run_tasks(one, [()])) == [1]


SHARD_FROM_HERE = "import sys; from jobs.cli import main; sys.exit(main(sys.argv[1:]))"


def test_a_users_own_folders_do_not_stand_in_for_ours(tmp_path: Path) -> None:
    for name in ("pipelines", "infra", "jobs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not ours')")
    root = photo_folder(tmp_path / "photos", 2)
    words = ["shard", "--source", "folder", "--root", str(root), "--out", str(tmp_path / "out")]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = str(PROJECT_ROOT)
    done = subprocess.run(
        [sys.executable, "-P", "-c", SHARD_FROM_HERE, *words],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_task_that_is_killed_each_time_is_named() -> None:
    def write_shard(_: object, split: str, number: int) -> int:
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    tasks = [({"plan": 1}, "train", number) for number in range(4)]
    with pytest.raises(
        TaskLostError, match=r"^write_shard train 3 failed at each try: its process died\. .*to continue"
    ):
        list(run_tasks(write_shard, tasks, max_retries=1))


def test_the_name_of_a_task_has_its_words_numbers_and_files() -> None:
    record = SimpleNamespace(file="train-00007.tar", sha256="0" * 64)
    assert (
        format_task_name(run_tasks, ("s3://b/data", 7, record, {"a": 1}, None))
        == "run_tasks s3://b/data 7 train-00007.tar"
    )
    assert format_task_name(_helper, (run_tasks, ("data", record))) == "helper run_tasks data train-00007.tar"
    assert len(format_task_name(_helper, ("x" * 1000,))) == 200


def _helper() -> None:
    """A function whose name begins as our tasks' do."""


def run_here(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own, which starts its own cluster or joins another."""
    variables = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT_ROOT, env=variables | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_cluster_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    root = photo_folder(tmp_path / "photos", 2)
    words = ("shard", "--source", "folder", "--root", str(root), "--out", str(tmp_path / "out"))
    code, report, stderr = lacuna(*words, cwd=PROJECT_ROOT, RAY_ADDRESS=address)
    assert code == 1
    assert report["error"].startswith(f"could not join the Ray cluster at RAY_ADDRESS={address}: ")
    assert report["error"].endswith("or unset RAY_ADDRESS to work on this machine alone")
    assert "Traceback" not in stderr


@pytest.mark.parametrize("answer", [b"HTTP/1.1 404 Not Found\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b""])
def test_a_port_at_which_no_ray_head_listens_is_said_before_ray_waits(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.sendall(answer)
                client.recv(100)

        Thread(target=serve, daemon=True).start()
        done = run_here("from infra.cluster import connect_ray\nconnect_ray(1).__enter__()", RAY_ADDRESS=address)
    assert f"could not join the Ray cluster at RAY_ADDRESS={address}: what listens there is no Ray head" in done.stderr


EATING = """
import os, sys, time, psutil
memory = psutil.virtual_memory()
os.environ["RAY_memory_usage_threshold"] = f"{1 - (memory.available - (1 << 30)) / memory.total:.4f}"
os.environ["RAY_memory_monitor_refresh_ms"] = "100"
from infra.cluster import TaskLostError, connect_ray, run_tasks
def write_shard(split, number):
    held = []
    for _ in range(200):
        held.append(bytearray(b"x") * (20 << 20))
        time.sleep(0.02)
try:
    with connect_ray(1):
        list(run_tasks(write_shard, [("train", 3)]))
except TaskLostError as fault:
    print(fault)
"""


@pytest.mark.slow
def test_a_task_that_takes_too_much_memory_ends_and_is_named() -> None:
    done = run_here(EATING)
    assert done.returncode == 0, done.stderr[-2000:]
    said = r"write_shard train 3 was killed at each of 4 tries: its node ran out of memory\. Free memory there, or use "
    assert re.search(f"(?m)^{said}", done.stdout), (done.stdout, done.stderr[-2000:])  # Ray says each kill before


STARTING = """
import os, signal, sys, threading, time, psutil
from infra.cluster import connect_ray, run_tasks
def stop(times):
    stopped = set()
    while len(stopped) < times:
        for process in psutil.Process().children():
            if process.pid not in stopped and process.name() == "raylet":
                process.send_signal(signal.SIGSTOP)
                stopped.add(process.pid)
        time.sleep(0.01)
threading.Thread(target=stop, args=(int(sys.argv[-1]),), daemon=True).start()
def one():
    return 1
try:
    with connect_ray(1):
        print(list(run_tasks(one, [()])))
except ConnectionError as fault:
    print(fault)
print([process.pid for process in psutil.Process().children() if process.name() == "raylet"])
"""


@pytest.mark.slow
def test_a_start_that_takes_too_long_is_tried_again_once() -> None:
    done = run_here(STARTING.replace("sys.argv[-1]", "'1'"))
    assert done.stdout == "[1]\n[]\n", done.stderr[-2000:]
    assert re.search(
        r"^Ray did not start on this machine: The current node timed out.*; trying once more$", done.stderr, re.M
    )


@pytest.mark.soak
def test_a_start_that_takes_too_long_twice_is_one_line() -> None:
    done = run_here(STARTING.replace("sys.argv[-1]", "'2'"))
    assert re.fullmatch(
        r"Ray did not start on this machine in two tries: .*, then run the .* again\n\[\]\n", done.stdout
    )
    assert "Traceback" not in done.stderr
