"""`lacuna submit` against a real Ray head: the verb runs there, its report and exit code come back, and no secret goes.

All goes through a relay that keeps what passes, and from a copy of our code beside which keys are planted.
"""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from infra.jobs import Job, connect, find_job, follow, start
from infra.settings import PACKAGES, PROJECT_ROOT
from pipelines.checkpoints import open_checkpoint
from pipelines.data.build import build_dataset
from pipelines.data.verify import verify_dataset
from pipelines.data.workspace import Plan
from pipelines.manifest import open_dataset
from tests.listening import listening
from tests.making import lacuna, shard_recipe
from tests.ray_head import RAY, Head, ray_head
from tests.relay import Relay, relay
from tests.s3 import free_ports

pytestmark = pytest.mark.slow

SHARD = ("--source", "folder", "--holdout", "0.2", "--shard-bytes", "10000")
MASKS = ("--mask-size-px", "32", "--mask-canvas-px", "64")
PLANTED = {
    name: f"planted{number}{name.lower()}4711"
    for number, name in enumerate(
        ("DOTENV", "PEM", "AWS", "TOKEN", "BLOB", "NAMED", "ENVIRONMENT", "PASSWORD", "URI", "WORDS", "NODE")
    )
}
NODE_LOGIN = b64encode(f"lacuna:{PLANTED['NODE']}".encode()).decode()


@dataclass(frozen=True)
class Cluster:
    """A head behind a relay, as a user has it who stands in a tree with keys."""

    head: Head
    relay: Relay
    tree: Path
    printed: list[str] = field(default_factory=list)
    """All that was printed on stdout and stderr so far."""

    @property
    def address(self) -> str:
        return self.relay.address

    @property
    def environment(self) -> dict[str, str]:
        planted = {"AWS_SECRET_ACCESS_KEY": PLANTED["ENVIRONMENT"], "MLFLOW_TRACKING_PASSWORD": PLANTED["PASSWORD"]}
        return self.head.environment | planted

    def submit(self, *words: str, **environment: str) -> tuple[int, dict[str, Any], str]:
        """`lacuna submit --cluster ...`."""
        words = ("submit", "--cluster", self.address, *words)
        code, report, stderr = lacuna(*words, cwd=self.tree, **self.environment | environment)
        self.printed += [json.dumps(report), stderr]
        return code, report, stderr


def planted_tree(folder: Path) -> Path:
    """A copy of our code, with what must stay at home beside it."""
    for package in PACKAGES:
        shutil.copytree(PROJECT_ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for place in (folder / ".env", folder / "infra" / ".env"):
        place.write_text(f"KEY={PLANTED['DOTENV']}\n")
    (folder / "jobs" / "server.pem").write_text(f"-----BEGIN PRIVATE KEY-----\n{PLANTED['PEM']}\n")
    (folder / "pipelines" / ".aws").mkdir()
    (folder / "pipelines" / ".aws" / "credentials").write_text(f"aws_secret_access_key = {PLANTED['AWS']}\n")
    (folder / "pipelines" / ".aws" / "config.py").write_text(f"KEY = {PLANTED['NAMED']!r}\n")
    (folder / "nets" / "blob.bin").write_bytes(PLANTED["BLOB"].encode() + os.urandom(30 << 20))
    (folder / "token").write_text(PLANTED["TOKEN"])
    (folder / "infra" / "auth_token").symlink_to(folder / "token")
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head whose nodes have a file of secrets, and the tree of a user."""
    tree = planted_tree(tmp_path_factory.mktemp("tree"))
    login = tmp_path_factory.mktemp("node") / "secrets.env"
    login.touch(mode=0o600)
    login.write_text(f"MLFLOW_TRACKING_USERNAME=lacuna\nMLFLOW_TRACKING_PASSWORD={PLANTED['NODE']}\n")
    with ray_head({"LACUNA_SECRETS": str(login)}) as head, relay(head.address) as between:
        yield Cluster(head, between, tree)


def shard_words(photos: Path, out: Path) -> tuple[str, ...]:
    return ("shard", *SHARD, *MASKS, "--root", str(photos), "--out", str(out))


@pytest.fixture(scope="module")
def done(
    cluster: Cluster, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[str, ...], tuple[int, dict[str, Any], str]]:
    """A dataset built by a job: the words of its verb, and how the submission ended."""
    words = shard_words(photos, tmp_path_factory.mktemp("job") / "data")
    return words, cluster.submit(*words)


def data_of(words: tuple[str, ...]) -> str:
    return words[words.index("--out") + 1]


def test_a_verb_runs_as_a_job_and_its_report_comes_back(done: Any) -> None:
    words, (code, report, stderr) = done
    assert code == 0, stderr[-2000:]
    assert (report["verb"], report["status"], report["exit_code"]) == ("submit", "SUCCEEDED", 0)
    assert report["job_id"].startswith("lacuna-")
    verb = report["report"]
    assert (verb["verb"], verb["dataset"], verb["num_inputs"], verb["num_written"]) == ("shard", data_of(words), 60, 60)
    assert verb["manifest_sha256"] == open_dataset(data_of(words)).manifest_sha256


def test_the_log_of_the_job_is_told_while_it_runs(done: Any) -> None:
    _, (_, report, stderr) = done
    assert f"job {report['job_id']} at http://127.0.0.1:" in stderr
    assert "sharding" in stderr
    assert stderr.count(f'"manifest_sha256": "{report["report"]["manifest_sha256"]}"') == 1


def test_a_job_writes_what_the_command_writes_here(done: Any, photos: Path, tmp_path: Path, ray_cluster: None) -> None:
    here = build_dataset(Plan(str(photos), str(tmp_path / "data"), shard_recipe(), seed=0), lambda *_: None)
    assert open_dataset(data_of(done[0])).manifest_sha256 == here.manifest_sha256
    assert verify_dataset(data_of(done[0]))[1] == []


def test_the_job_worked_on_the_cluster_and_not_beside_it(cluster: Cluster, done: Any) -> None:
    (job,) = [j for j in cluster.head.get("/api/jobs/") if j["submission_id"] == done[1][1]["job_id"]]
    assert job["driver_info"], "the verb has connected to no cluster, or to one of its own"
    assert job["entrypoint"].startswith("python -m jobs.shard ")
    assert job["metadata"]["lacuna.code"].startswith("source:")


def test_the_same_submission_after_the_end_finds_all_done(cluster: Cluster, done: Any) -> None:
    words, (_, first, _) = done
    before = Path(data_of(words), "dataset.json").stat().st_mtime_ns
    code, again, _ = cluster.submit(*words)
    assert code == 0
    assert again["job_id"] == first["job_id"].removesuffix("-1") + "-2"
    assert again["report"]["manifest_sha256"] == first["report"]["manifest_sha256"]
    assert Path(data_of(words), "dataset.json").stat().st_mtime_ns == before


def test_a_training_without_a_tracking_server_is_refused(cluster: Cluster) -> None:
    code, report, _ = cluster.submit("train", "deepgin-demo", "--data", "/d", "--out", "/o", MLFLOW_TRACKING_URI="")
    assert code == 2
    assert "MLFLOW_TRACKING_URI is not set" in report["error"]


def test_a_verb_that_fails_gives_its_own_exit_code_and_words(cluster: Cluster, tmp_path: Path) -> None:
    code, report, _ = cluster.submit("shard", "--source", "imagenet", "--out", str(tmp_path / "data"))
    assert (code, report["status"], report["exit_code"]) == (2, "FAILED", 2)
    assert report["report"]["error"].startswith("unknown source 'imagenet'")
    assert "unknown source 'imagenet'" in report["error"]
    assert "the same command makes another attempt" in report["error"]
    second = cluster.submit("shard", "--source", "imagenet", "--out", str(tmp_path / "data"))[1]
    assert second["job_id"] == report["job_id"][:-1] + "2"  # a job that failed is tried again


def test_a_fault_of_the_work_gives_exit_1(cluster: Cluster, done: Any, tmp_path: Path) -> None:
    copy = shutil.copytree(data_of(done[0]), tmp_path / "data")
    victim = next(copy.rglob("*.tar"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    code, report, _ = cluster.submit("verify", str(copy))
    assert (code, report["exit_code"]) == (1, 1)
    assert victim.name in report["report"]["damaged"][0]["file"]


def test_a_training_runs_as_a_job(cluster: Cluster, done: Any, tmp_path: Path) -> None:
    out, database = str(tmp_path / "run"), f"sqlite:///{tmp_path / 'mlflow.db'}"
    words = ("train", "deepgin-demo", "--data", data_of(done[0]), "--out", out, "--workers", "2", "--images", "8")
    code, report, stderr = cluster.submit(*words, MLFLOW_TRACKING_URI=database)
    assert code == 0, stderr[-2000:]
    assert report["report"]["images_seen"] == 8
    assert open_checkpoint(out).file_sha256("generator") == report["report"]["weights_sha256"]
    assert (tmp_path / "mlflow.db").exists()
    assert secrets_in(tmp_path) == []


@pytest.mark.parametrize("token", ["a" * 64, ""])
def test_a_wrong_or_missing_token_is_told(cluster: Cluster, token: str) -> None:
    words = ("verify", "data")
    code, report, _ = cluster.submit(*words, RAY_AUTH_TOKEN=token, RAY_AUTH_TOKEN_PATH="", HOME="/nonexistent")
    assert code == 1
    assert report["error"].startswith(f"no Ray cluster takes jobs at {cluster.address}: ")
    assert "RAY_AUTH_TOKEN" in report["error"]
    assert cluster.head.token not in report["error"]


def test_no_cluster_at_the_address_is_told() -> None:
    (port,) = free_ports(1)
    code, report, _ = lacuna("submit", "--cluster", f"http://127.0.0.1:{port}", "verify", "data", cwd=PROJECT_ROOT)
    assert code == 1
    assert report["error"].startswith(f"no Ray cluster takes jobs at http://127.0.0.1:{port}: ")
    assert "give the address of its dashboard" in report["error"]


def test_a_wrong_login_of_the_nodes_ends_the_job_at_once(cluster: Cluster, done: Any, tmp_path: Path) -> None:
    """The login is that of the nodes' file, which the user of `submit` has not."""
    words = ("train", "deepgin-demo", "--data", data_of(done[0]), "--out", str(tmp_path / "run"), "--images", "8")
    with listening(401, b"no") as server:
        code, report, _ = cluster.submit(*words, MLFLOW_TRACKING_URI=server.address)
    assert (code, report["status"]) == (1, "FAILED")
    assert f"{server.address} refuses the login" in report["error"]
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in report["error"]
    assert [login for _, _, login in server.asked] == [f"Basic {NODE_LOGIN}"], "one call, with the login of the nodes"
    assert not (tmp_path / "run").exists()


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


def shown_lines(text: str) -> list[str]:
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
    assert shown_lines(shown + capsys.readouterr().err) == [f"line {i}" for i in range(60)]
    assert any("does not answer" in line and job.id in line for line in warnings)
    assert any("answers again after" in line for line in warnings)


def wait_for_lines(capsys: pytest.CaptureFixture[str], count: int) -> str:
    """What is shown until `count` more lines of the job are."""
    text = ""
    while len(shown_lines(text)) < count:
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
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        words = [sys.executable, "-m", "jobs.cli", "submit", "--cluster", cluster.address, "promote", "name", "1"]
        environment = os.environ | cluster.environment | {"MLFLOW_TRACKING_URI": uri}
        process = subprocess.Popen(
            words, cwd=cluster.tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        silent.accept()  # the job is at work
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
        cluster.printed += [stdout, stderr]
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


def test_passwords_are_refused_and_not_sent(cluster: Cluster) -> None:
    uri = f"http://me:{PLANTED['URI']}@127.0.0.1:9"
    assert cluster.submit("promote", "name", "1", MLFLOW_TRACKING_URI=uri)[0] == 2
    assert cluster.submit("verify", f"s3://key:{PLANTED['WORDS']}@bucket/data")[0] == 2


def secrets_in(folder: Path) -> list[tuple[str, str]]:
    """Names of planted secrets that stand in files below a folder, and where."""
    return [
        (name, str(path))
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
        for name, secret in PLANTED.items()
        if secret.encode() in path.read_bytes()
    ]


def sent_archives(streams: list[bytes]) -> list[ZipFile]:
    """The archives of code that passed."""
    found = [(stream, stream.find(b"PK\3\4"), stream.rfind(b"PK\5\6")) for stream in streams]
    return [ZipFile(io.BytesIO(stream[begin : end + 22])) for stream, begin, end in found if begin >= 0 < end]


def test_no_planted_secret_was_written_sent_or_printed(cluster: Cluster, done: Any) -> None:
    """The last of this file: it looks at what all the others did."""
    ours = {str(path.relative_to(PROJECT_ROOT)) for name in PACKAGES for path in (PROJECT_ROOT / name).rglob("*.py")}
    archives = sent_archives(cluster.relay.streams())
    assert archives
    assert all({name for name in archive.namelist() if not name.endswith("/")} == ours for archive in archives)
    listed = subprocess.run(
        [RAY, "job", "list", "--address", cluster.address],
        env=os.environ | cluster.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done[1][1]["job_id"] in listed.stdout
    text = "\n".join([*cluster.printed, listed.stdout, listed.stderr])
    everywhere = text.encode() + b"\n".join(cluster.relay.streams())
    assert [name for name, secret in PLANTED.items() if secret.encode() in everywhere] == []
    assert NODE_LOGIN not in text
    assert secrets_in(cluster.head.folder) == []
    assert secrets_in(Path(data_of(done[0])).parent) == []
    assert cluster.head.token not in text
