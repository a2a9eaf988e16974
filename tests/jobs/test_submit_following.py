"""A job is followed to its end through breaks and by several at once; who leaves is told how to go on."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from infra.jobs import Job, connect, find_job, follow, start
from tests.planted import Cluster
from tests.ray_head import RAY
from tests.relay import relay

pytestmark = pytest.mark.slow

COUNT = "import time\nfor i in range({lines}):\n    print('line', i, flush=True)\n    time.sleep({seconds})"


def counting(cluster: Cluster, lines: int, seconds: float) -> Job:
    """A job that prints numbered lines, as the cluster would run it next."""
    words = ("python", "-c", COUNT.format(lines=lines, seconds=seconds))
    return find_job(connect(cluster.head.address), words, {})


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> None:
    """This process as a user of the cluster."""
    for name, value in cluster.head.environment.items():
        monkeypatch.setenv(name, value)


def find_lines(text: str) -> list[str]:
    return re.findall(r"^line \d+$", text, re.MULTILINE)


def test_a_log_that_breaks_off_goes_on_without_a_doubled_line(
    cluster: Cluster, own_environment: None, capsys: pytest.CaptureFixture[str]
) -> None:
    warnings: list[str] = []
    job = counting(cluster, 60, 0.15)
    with relay(cluster.head.address) as between:
        client = connect(between.address)
        start(client, job)
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(follow, client, job.id, warnings.append)
            shown = wait_for_lines(capsys, 5)
            between.break_off()
            shown += wait_for_lines(capsys, 15)
            between.cut()
            time.sleep(2.0)
            between.join()
            end = following.result()
    assert (end.status, end.exit_code) == ("SUCCEEDED", 0)
    assert find_lines(shown + capsys.readouterr().err) == [f"line {i}" for i in range(60)]
    assert any("does not answer" in line and job.id in line for line in warnings)
    assert any("answers again after" in line for line in warnings)


def wait_for_lines(capsys: pytest.CaptureFixture[str], count: int) -> str:
    """What is shown until `count` more lines of the job are."""
    text = ""
    while len(find_lines(text)) < count:
        time.sleep(0.1)
        text += capsys.readouterr().err
    return text


def test_a_cluster_that_is_gone_for_good_ends_in_words(cluster: Cluster, own_environment: None) -> None:
    job = counting(cluster, 1000, 0.2)
    with relay(cluster.head.address) as between:
        client = connect(between.address)
        start(client, job)
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(follow, client, job.id, lambda _: None, 3.0)
            time.sleep(2.0)
            between.cut()
            with pytest.raises(ConnectionError, match=f"{between.address} gave no answer for 3 s"):
                following.result()
    direct = connect(cluster.head.address)
    again = counting(cluster, 1000, 0.2)
    assert (again.id, again.is_there) == (job.id, True), "the job runs on, and the same command would follow it"
    direct.stop_job(job.id)
    assert follow(direct, job.id, lambda _: None).status == "STOPPED"
    assert counting(cluster, 1000, 0.2).id == job.id[:-1] + "2"


def test_a_job_that_its_cluster_forgot_is_no_end_of_it(cluster: Cluster, own_environment: None) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        follow(connect(cluster.head.address), "lacuna-nobody-1", lambda _: None)


def test_equal_submissions_at_one_moment_are_one_job(cluster: Cluster, own_environment: None) -> None:
    """All have asked before any has sent: one is taken, the others follow it, and so does one that comes too late."""
    jobs = [counting(cluster, 7, 0.1) for _ in range(5)]
    assert len({job.id for job in jobs}) == 1
    late = jobs.pop()

    def send(job: Job) -> Any:
        client = connect(cluster.head.address)
        start(client, job)
        return follow(client, job.id, lambda _: None)

    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(send, jobs))
    ends.append(send(late))
    assert {(end.job_id, end.status, end.exit_code) for end in ends} == {(late.id, "SUCCEEDED", 0)}
    known = [j for j in cluster.head.get("/api/jobs/") if str(j["submission_id"]).startswith(late.id[:-1])]
    assert len(known) == 1


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_leaves_is_told_how_to_go_on_and_how_to_stop(
    cluster: Cluster, number: signal.Signals, exit_code: int
) -> None:
    """The job asks a tracking server that never answers, and so runs for a while."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(90)
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        words = [sys.executable, "-m", "jobs.cli", "submit", "--cluster", cluster.address, "promote", "name", "1"]
        environment = os.environ | cluster.environment | {"MLFLOW_TRACKING_URI": uri}
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for what runs in the background
        process = subprocess.Popen(
            words, cwd=cluster.tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        silent.accept()  # the job is at work
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
        cluster.printed.extend((stdout, stderr))
        report = json.loads(stdout)
        assert process.returncode == exit_code
        assert (report["status"], report["exit_code"]) == ("RUNNING", None)
        assert f"job {report['job_id']} is RUNNING at {cluster.address}" in report["error"]
        assert "the same command follows it again" in report["error"]
        stop = re.search(r"`(ray job stop \S+ --address \S+)` stops it", report["error"])
        assert stop
        told = [RAY, *stop[1].split()[1:]]
        assert subprocess.run(told, env=environment, capture_output=True, check=False, timeout=60).returncode == 0
        assert cluster.head.get(f"/api/jobs/{report['job_id']}")["status"] == "STOPPED"
