"""The words of `lacuna submit`: whose option is whose, and what is refused before a byte is sent."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.settings import PROJECT_ROOT
from infra.tracking import require_login
from infra.tracking_faults import LoginError
from jobs.cli import main
from jobs.submit import Arguments, _drop_local_weights, parse
from pipelines.records import UsageError
from tests.listening import listening
from tests.making import lacuna

pytestmark = pytest.mark.thorough

AT = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("--cluster", AT, "verify", "d"), (("verify", "d"), AT, False)),
        (("--cluster=" + AT, "verify", "d"), (("verify", "d"), AT, False)),
        (("verify", "d", "--cluster", AT), (("verify", "d"), AT, False)),
        (("--insecure", "--cluster", AT, "verify", "d"), (("verify", "d"), AT, True)),
        (("--cluster", AT, "--insecure", "verify", "d"), (("verify", "d"), AT, True)),
        (("--cluster", AT, "verify", "--insecure"), (("verify", "--insecure"), AT, False)),
        (("--cluster", AT, "fill", "--model", "-1"), (("fill", "--model", "-1"), AT, False)),
        (("--cluster", AT, "verify", "submit"), (("verify", "submit"), AT, False)),
    ],
)
def test_options_before_the_verb_are_ours_and_those_behind_it_are_its_own(
    words: tuple[str, ...], meant: tuple[Any, ...]
) -> None:
    assert parse(list(words)) == Arguments(*meant)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("verify", "d"), "--cluster ADDRESS is missing"),
        (("verify", "d", "--cluster"), "--cluster ADDRESS is missing"),
        (("--cluster", "--insecure", "verify"), "--cluster ADDRESS is missing"),
        (("--cluster=", "verify"), "--cluster ADDRESS is missing"),
        (("--cluster", AT, "verify", "--cluster", AT), "--cluster is given 2 times"),
        (("--cluster", AT, "--fast", "verify"), "unknown option --fast before the verb"),
        (("--cluster", AT, "--data", "d", "train"), "unknown option --data before the verb"),
        (("--cluster", AT, "--check-cluster", "f"), "--check-cluster is given with other options"),
        (("--check-cluster=f", "--cluster", AT), "--check-cluster takes one file, not 3"),
        (("--check-cluster=",), "--check-cluster takes one file, not 0"),
        (("--cluster", AT), "no verb given: use one of demo, shard"),
        (("--cluster", AT, "dance"), "cannot submit 'dance'"),
        (("--cluster", AT, "submit", "verify"), "cannot submit 'submit'"),
    ],
)
def test_other_words_are_refused(words: tuple[str, ...], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        parse(list(words))


def test_the_file_to_check_may_stand_behind_an_equals_sign() -> None:
    assert parse(["--check-cluster=f.yaml"]) == parse(["--check-cluster", "f.yaml"])


def test_help_behind_a_verb_is_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    for words, verb in (
        (("submit", "--help"), "submit"),
        (("submit", "verify", "--help"), "verify"),
        (("submit", "--cluster", AT, "where", "x", "-h"), "where"),
        (("submit", "dance", "--help"), "submit"),
        (("where", "verify", "--help"), "where"),
    ):
        assert main(list(words)) == 0
        assert f"usage: lacuna {verb} " in capsys.readouterr().out


def test_clear_http_to_another_machine_is_not_even_tried() -> None:
    """0.0.0.0 leads to this machine, and is not counted as it."""
    with listening(404) as server:
        address = f"http://0.0.0.0:{server.server_port}"
        code, report, stderr = lacuna("submit", "--cluster", address, "verify", "/d", cwd=PROJECT_ROOT)
        assert (code, server.asked) == (2, [])
        assert f"--cluster {address} is plain http to another machine" in report["error"]
        assert report["error"] in stderr
        code, report, _ = lacuna("submit", "--insecure", "--cluster", address, "verify", "/d", cwd=PROJECT_ROOT)
        assert code == 1
        assert server.asked


@pytest.mark.parametrize(
    ("words", "environment", "error"),
    [
        (("verify", "s3://key:pass4711@bucket/data"), {}, "s3://bucket/data holds a password or key"),
        (("train", "r", "--data", "s3://key:pass4711@b"), {}, "--data s3://b holds a password or key"),
        (("fill", "--out=https://h/x?sig=pass4711"), {}, "--out=https://h/x?sig=*** holds a password or key"),
        (("verify", "s3%3A%2F%2Fkey%3Apass4711%40b"), {}, "s3://b holds a password or key"),
        (("verify", "AWS_SECRET_ACCESS_KEY=pass4711"), {}, "a word holds a password or key"),
        (("verify", "/d", "--password=pass4711"), {}, "a word holds a password or key"),
        (("verify", "/d", "--password", "pass4711"), {}, "--password a word holds a password or key"),
        (("verify", '{"key": "x", "secret": "pass4711"}'), {}, "a word holds a password or key"),
        (("train", "r", "--data", "s3://AKIAIOSFODNN74711PLE/d"), {}, "--data a word holds a password or key"),
        (
            ("promote", "n", "1"),
            {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"},
            "MLFLOW_TRACKING_URI is sqlite:///mlflow.db, in the job's own folder",
        ),
        (("verify", "/d"), {"LACUNA_WEIGHTS": "s3://key:pass4711@b"}, "LACUNA_WEIGHTS holds a password"),
        (
            ("promote", "n", "1"),
            {"MLFLOW_TRACKING_URI": "http://me:pass4711@host:5000"},
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        ),
        (
            ("promote", "n", "1"),
            {"MLFLOW_TRACKING_URI": "postgresql://me:pass4711@host/db"},
            "MLFLOW_TRACKING_URI holds a password, and `ray job list` shows it",
        ),
    ],
)
def test_passwords_in_words_and_variables_are_refused_before_anything_is_sent(
    words: tuple[str, ...], environment: dict[str, str], error: str
) -> None:
    with listening(404) as server:
        code, report, stderr = lacuna("submit", "--cluster", server.address, *words, cwd=PROJECT_ROOT, **environment)
    assert (code, server.asked) == (2, [])
    assert error in report["error"]
    assert "4711" not in str(report) + stderr


TRAIN = ("train", "deepgin-demo", "--data", "/d", "--out", "/o")
FILL = ("fill", "--model", "telea", "--image", "/i.png", "--mask", "/m.png", "--out", "/o.png")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((*TRAIN, "--speed", "9"), "bad usage: see `lacuna train --help`"),
        (TRAIN[:-2], "bad usage: see `lacuna train --help`"),
        ((*TRAIN, "--workers", "two"), "bad usage: see `lacuna train --help`"),
        (("train", "deepgin-dmo", *TRAIN[2:]), "unknown recipe 'deepgin-dmo': nearest are deepgin-demo"),
        (("resume-check", "nonsense", "--data", "/d"), "unknown recipe 'nonsense'"),
        (("probe", "--recipe", "nonsense"), "unknown recipe 'nonsense'"),
        (("stream", "/d", "--recipe", "nonsense", "--out", "/o.png"), "unknown recipe 'nonsense'"),
        ((*TRAIN, "--workers", "3"), "--workers 3 does not divide the batch size 4: use 1, 2 or 4"),
        ((*TRAIN, "--images", "7"), "--images is 7: use a multiple of the batch size 4"),
        ((*TRAIN, "--min-workers", "2"), "--min-workers is 2: use 1 to 1"),
        ((*TRAIN, "--loader-workers", "-1"), "--loader-workers is -1: use 0"),
        ((*TRAIN, "--grad-accumulation", "3"), "--grad-accumulation 3 does not divide the 4 photos of a worker"),
        (("resume-check", "deepgin-demo", "--data", "/d", "--steps", "5"), "--steps is 5: use a multiple of 4"),
        (("shard", "--source", "imagenet", "--out", "/o"), "unknown source 'imagenet'"),
        (("shard", "--source", "folder", "--out", "/o"), "--root is missing"),
        (("shard", "--source", "folder", "--root", "/r", "--resize", "huge", "--out", "/o"), "unknown resize 'huge'"),
        (("shard", "--out", "/o", "--add", "/r", "--compact"), "more than one change given"),
        (("verify", "/d", "--share", "2"), "--share is 2.0: it must be greater than 0"),
        (("weights", "/x.pth"), "/x.pth is no known file"),
        (FILL[:-4] + FILL[-2:], "give --mask, or --hole alpha"),
        (("export", "--model", "/r", "--format", "onnx", "--out", "/o.pt"), "--format is onnx, --out is /o.pt"),
        (("demo", "--source", "imagenet"), "unknown source 'imagenet'"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_what_the_verb_refuses_is_refused_before_the_cluster_is_asked(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...], error: str
) -> None:
    assert_refused(capfd, words, error)


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("verify", "d"), "URI d"),
        (("verify", "--", "d"), "URI d"),
        (("stream", "/a", "b", "--out", "/o.png"), "URI b"),
        (("stream", "/a"), "--out stream.png"),
        (("shard", "--source", "packages", "--out", "data"), "--out data"),
        (("shard", "--source", "packages", "--out=data"), "--out data"),
        (("shard", "--out", "/o", "--add", "more"), "--add more"),
        (("shard", "--out", "/o", "--remove", "key", "@keys.txt"), "--remove keys.txt"),
        (("shard", "--source", "packages", "--out", "/o", "--mask-files", "m"), "--mask-files m"),
        (("train", "deepgin-demo", "--data", "/a", "b", "--out", "/o"), "--data b"),
        (("train", "--data", "/a", "--out", "o", "--", "deepgin-demo"), "--out o"),
        (("fill", "--sketch", "s.png", *FILL[1:]), "--sketch s.png"),
        ((*FILL[:1], "--model=runs/mine", *FILL[3:]), "--model runs/mine"),
        (("evaluate", "--model", "telea", "--data", "d", "--out", "/o"), "--data d"),
        (("register", "--checkpoint", "c", "--scores", "/s", "--name", "n"), "--checkpoint c"),
        (("where", "a/b", "--data", "d"), "--data d"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_a_relative_path_is_refused_in_every_form(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...], path: str
) -> None:
    assert_refused(capfd, words, f"{path} is relative: on a cluster give a URI or an absolute path")


def assert_refused(capfd: pytest.CaptureFixture[str], words: tuple[str, ...], error: str) -> None:
    """The submission ends with exit code 2 and the message, and its server is not asked."""
    with listening(404) as server:
        code = main(["submit", "--cluster", server.address, *words])
    captured = capfd.readouterr()
    report = json.loads(captured.out)
    assert (code, server.asked) == (2, []), report
    assert error in report["error"]
    assert f"error: {report['error']}" in captured.err


@pytest.mark.parametrize(
    "words",
    [
        TRAIN,
        ("train", "--out", "/o", "--data", "s3://b/a", "/b", "--workers", "2", "deepgin-demo"),
        ("fill", "--model", "models:/n@champion", *FILL[3:]),
        ("where", "a/b", "--data", "/d"),
        ("shard", "--out", "/o", "--remove", "a/b"),
    ],
    ids=lambda words: " ".join(words)[:60],
)
def test_what_the_verb_takes_is_sent_to_the_cluster(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with listening(404) as server:
        code = main(["submit", "--cluster", server.address, *words])
        assert server.asked
    assert (code, "no Ray cluster accepts jobs" in capfd.readouterr().err) == (1, True)


def test_a_file_of_secrets_that_others_can_read_ends_every_verb_in_words(tmp_path: Path) -> None:
    (tmp_path / "secrets.env").write_text("MLFLOW_TRACKING_TOKEN=pass4711")
    (tmp_path / "secrets.env").chmod(0o644)
    code, report, stderr = lacuna("recipe", cwd=PROJECT_ROOT, LACUNA_SECRETS=str(tmp_path / "secrets.env"))
    assert code == 2
    assert "which has mode 644, not 600 or 400: run `chmod 600" in report["error"]
    assert "4711" not in str(report) + stderr


@pytest.mark.parametrize("status", [401, 403])
def test_a_login_that_a_server_refuses_is_named_with_its_variables(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pass4711")
    with listening(status, b"no") as server, pytest.raises(LoginError) as refusal:
        require_login(server.address)
    words = "refuses the login" if status == 401 else "forbids this to its user"
    assert f"the tracking server at {server.address} {words}" in str(refusal.value)
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in str(refusal.value)
    assert "4711" not in str(refusal.value)
    assert len(server.asked) == 1


def test_a_login_that_is_taken_or_a_server_that_is_away_ends_nothing() -> None:
    with listening(200, b"{}") as server:
        require_login(server.address)
    assert len(server.asked) == 1
    require_login(server.address)  # nobody there now
    require_login("sqlite:///nowhere.db")


@pytest.mark.parametrize(
    ("given", "travels"),
    [("/home/ann/weights", False), ("weights", False), ("file:///weights", False), ("s3://bucket/weights", True)],
)
def test_only_weights_of_a_store_travel_with_a_job(given: str, travels: bool) -> None:
    environment = {"LACUNA_WEIGHTS": given, "MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    _drop_local_weights(environment)
    assert ("LACUNA_WEIGHTS" in environment) is travels
    assert environment["MLFLOW_TRACKING_URI"]
