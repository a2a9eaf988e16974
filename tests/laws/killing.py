"""Processes to be killed: `lacuna shard` as a process of its own, and a Ray cluster of two nodes that can lose one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from infra.settings import PROJECT_ROOT

SECONDS_TO_START, SECONDS_TO_END = 120, 300
OPTIONS = ("--source", "folder", "--holdout", "0.2", "--shard-bytes", "4000", "--mask-size-px", "32")
_SECOND_HOST = "127.0.0.2"
"""An address of its own, so that no driver takes the second node for the one that it stands on."""

Lacuna = subprocess.Popen[str]


def start(*words: str, verb: str = "shard", cluster: str | None = None) -> Lacuna:
    """`lacuna` as a process that leads a group of its own, on this Ray cluster or on a private one."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", verb, *words],
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env=environment | ({"RAY_ADDRESS": cluster} if cluster else {}),
    )


def end(process: Lacuna) -> tuple[int, dict[str, Any]]:
    """Waits for the end of the process; its exit code and its report, empty where it was killed before it gave one."""
    stdout, _ = process.communicate(timeout=SECONDS_TO_END)
    return process.returncode, json.loads(stdout or "{}")


def finish(*words: str, verb: str = "shard", cluster: str | None = None) -> dict[str, Any]:
    """Runs the command to its end, which must be a good one; returns its report."""
    code, report = end(start(*words, verb=verb, cluster=cluster))
    assert code == 0, report
    return report


def wait_until(condition: Callable[[], bool]) -> bool:
    """Waits for the condition; whether it came true in time."""
    deadline = time.monotonic() + SECONDS_TO_START
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return true


def wait_for_work(process: Lacuna, out: Path) -> None:
    """Waits until the process has listed its source, or has ended."""
    wait_until(lambda: process.poll() is not None or (out / ".build" / "new" / "listed.json").exists())


def kill_driver(process: Lacuna) -> None:
    """The process alone, as when it runs out of memory."""
    kill(process.pid)


def kill_group(process: Lacuna) -> None:
    """The process and all that it started, as when the machine stops."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class TwoNodes:
    """A Ray cluster of two nodes with one core each, of which the second can die."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        self.add_second_node()

    def add_second_node(self) -> None:
        """A new one in the place of the one that was killed."""
        self._second: Any = self._cluster.add_node(num_cpus=1, node_ip_address=_SECOND_HOST)

    @property
    def address(self) -> str:
        """What RAY_ADDRESS names."""
        return str(self._cluster.address)

    def workers(self, at_work: Callable[[int], bool]) -> list[int]:
        """The processes of both nodes of which this is true, by their pids."""
        raylets = [_raylet(node) for node in (self._cluster.head_node, self._second)]
        return [pid for raylet in raylets for pid in children(raylet) if at_work(pid)]

    def kill_worker(self, rng: random.Random, at_work: Callable[[int], bool]) -> bool:
        """Kills one of the processes of both nodes of which this is true; whether there was one."""
        busy = self.workers(at_work)
        if busy:
            kill(rng.choice(busy))
        return bool(busy)

    def kill_second_node(self) -> None:
        """Its raylet and all of its workers at once."""
        raylet = _raylet(self._second)
        for pid in (raylet, *children(raylet)):
            kill(pid)

    def stop(self) -> None:
        """Ends both nodes."""
        self._cluster.shutdown()


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """The cluster for the time of the block."""
    nodes = TwoNodes()
    try:
        yield nodes
    finally:
        nodes.stop()


def kill(pid: int) -> None:
    """SIGKILL, where the process is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def children(parent: int) -> list[int]:
    """The processes that this one has started, by their pids."""
    lists = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(pid) for path in lists for pid in path.read_text().split()]


def trains(pid: int) -> bool:
    """Whether the process is a rank of a training."""
    with suppress(OSError):
        return b"RayTrainWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def runs_a_task(pid: int) -> bool:
    """Whether the process works for Ray at this moment."""
    with suppress(OSError):
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
        return title.startswith(b"ray::") and not title.startswith(b"ray::IDLE")
    return False
