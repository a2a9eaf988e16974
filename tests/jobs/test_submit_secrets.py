"""No planted secret is written, sent or printed by a job; the nodes' own login reaches the tracking server alone."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.settings import PROJECT_ROOT, list_source_files
from tests.listening import listening
from tests.planted import NODE_LOGIN, PLANTED, Cluster, data_of, find_sent_archives, secrets_in
from tests.ray_head import RAY

pytestmark = pytest.mark.slow


def test_a_wrong_login_of_the_nodes_ends_the_job_at_once(cluster: Cluster, done: Any, tmp_path: Path) -> None:
    """The login is that of the nodes' file, which the user of `submit` has not."""
    words = ("train", "deepgin-demo", "--data", data_of(done[0]), "--out", str(tmp_path / "run"), "--images", "8")
    with listening(401, b"no") as server:
        code, report, _ = cluster.submit(*words, MLFLOW_TRACKING_URI=server.address)
    assert (code, report["status"]) == (2, "FAILED")
    assert f"the tracking server at {server.address} refuses the login" in report["error"]
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in report["error"]
    assert [login for _, _, login in server.asked] == [f"Basic {NODE_LOGIN}"], "one call, with the login of the nodes"
    assert not (tmp_path / "run").exists()


def test_passwords_are_refused_and_not_sent(cluster: Cluster) -> None:
    uri = f"http://me:{PLANTED['URI']}@127.0.0.1:9"
    assert cluster.submit("promote", "name", "1", MLFLOW_TRACKING_URI=uri)[0] == 2
    assert cluster.submit("verify", f"s3://key:{PLANTED['WORDS']}@bucket/data")[0] == 2


def test_no_planted_secret_was_written_sent_or_printed(cluster: Cluster, done: Any) -> None:
    """It looks at all that the tests of `submit` before it did."""
    ours = {str(path.relative_to(PROJECT_ROOT)) for path in list_source_files()}
    archives = find_sent_archives(cluster.relay.streams())
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
