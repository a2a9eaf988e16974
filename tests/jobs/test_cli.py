"""The contract of every command: one line of JSON on stdout, a true exit code, words that help, slow imports late."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from infra.settings import PROJECT_ROOT
from jobs import cli
from jobs.cli import VERBS
from jobs.faults import VerbError
from pipelines.data.image.decode import ENCODERS
from pipelines.data.image.resize import RESIZES
from pipelines.data.sources import DATASETS
from pipelines.manifest import Dataset
from pipelines.records import CorruptDataError, JobError, UsageError
from tests.making import lacuna

pytestmark = pytest.mark.thorough

SLOW_LIBRARIES = ("torch", "ray", "mlflow", "numpy", "tyro", "cv2")


def python(code: str) -> str:
    """Stdout of a fresh interpreter that runs the code."""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    """The command in this process: exit code, the report of its only line on stdout, stderr."""
    code = cli.main(words)
    captured = capfd.readouterr()
    (line,) = captured.out.strip().split("\n")
    return code, json.loads(line), captured.err


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A verb of the test's own, `lacuna trial`, whose `run` the test gives."""
    module = ModuleType("jobs.trial")
    monkeypatch.setitem(sys.modules, "jobs.trial", module)
    monkeypatch.setitem(VERBS, "trial", "what the test does")
    module.parse = lambda _: None  # type: ignore[attr-defined]
    return module


def test_success_is_one_line_and_exit_0(dataset: Dataset) -> None:
    words = ("train", "deepgin-demo", "--data", dataset.uri, "--out", "nowhere", "--dry-run")
    code, report, _ = lacuna(*words, cwd=PROJECT_ROOT)
    assert code == 0
    assert report["verb"] == "train"
    assert report["recipe"]["name"] == "deepgin-demo"
    assert 0 <= report["seconds"] < 60
    assert "error" not in report


def test_a_fault_of_the_work_is_one_line_and_exit_1(dataset: Dataset, tmp_path: Path) -> None:
    copy = shutil.copytree(dataset.uri, tmp_path / "data")
    record = copy / "dataset.json"
    record.write_bytes(record.read_bytes().replace(b'"seed":0', b'"seed":1'))
    code, report, stderr = lacuna("verify", str(copy), cwd=PROJECT_ROOT)
    assert code == 1
    assert [damage["file"] for damage in report["damaged"]] == ["dataset.json"]
    assert "1 damages in " in report["error"]
    assert f"error: {report['error']}" in stderr


def test_bad_usage_is_one_line_and_exit_2() -> None:
    code, report, stderr = lacuna("verify", "data", "--speed", "9", cwd=PROJECT_ROOT)
    assert (code, report["verb"]) == (2, "verify")
    assert report["error"] == "bad usage: see `lacuna verify --help`"
    assert "speed" in stderr


def test_python_m_is_the_same_command() -> None:
    words = ("shard", "--source", "imagenet", "--out", "o")
    command = [sys.executable, "-m", f"jobs.{words[0]}", *words[1:]]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    code, report, stderr = lacuna(*words, cwd=PROJECT_ROOT)
    assert (done.returncode, done.stderr) == (code, stderr) == (2, f"error: {report['error']}\n")
    assert json.loads(done.stdout) | {"seconds": 0} == report | {"seconds": 0}


def test_the_console_script_is_there() -> None:
    script = Path(sys.executable).with_name("lacuna")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert all(verb in done.stdout for verb in VERBS)


def test_help_imports_nothing_slow() -> None:
    found = f"print(*[name for name in {SLOW_LIBRARIES} if name in sys.modules])"
    *_, imported, _ = python(f"import sys; from jobs.cli import main; main(['--help']); {found}").split("\n")
    assert imported == ""


@pytest.mark.parametrize(("verb", "libraries"), [("verify", ("torch", "ray", "mlflow")), ("shard", ("ray", "mlflow"))])
def test_a_verb_does_not_import_the_libraries_of_others(verb: str, libraries: tuple[str, ...]) -> None:
    found = f"print(*[name for name in {libraries} if name in sys.modules])"
    assert python(f"import sys, jobs.{verb}; {found}") == "\n"


def test_what_verbs_print_goes_to_stderr() -> None:
    code = """
import os, sys, types
from jobs import cli

def chatter(_):
    print("from Python")
    os.system("echo from a child")
    os.write(1, b"from C\\n")
    return {"answer": 42}

trial = types.ModuleType("jobs.trial")
trial.parse, trial.run = list, chatter
sys.modules["jobs.trial"], cli.VERBS["trial"] = trial, "what the test does"
sys.exit(cli.main(["trial"]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["answer"] == 42
    assert set(done.stderr.splitlines()) == {"from Python", "from a child", "from C"}


def test_an_unknown_verb_is_answered_with_the_known_ones(capfd: pytest.CaptureFixture[str]) -> None:
    code, report, stderr = run(capfd, "tran")
    assert (code, report["verb"]) == (2, "tran")
    assert report["error"].startswith("unknown verb 'tran': use one of demo, shard, ")
    assert "usage: lacuna VERB" in stderr


def test_no_verb_is_answered_with_the_known_ones(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["lacuna"])
    assert cli.main() == 2
    report = json.loads(capfd.readouterr().out)
    assert report["error"].startswith("no verb given: use one of ")


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["nothing"]])
def test_a_reader_who_leaves_early_gets_no_traceback(words: list[str]) -> None:
    code = "import sys; from jobs import cli; sys.exit(cli.main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    stderr = process.stderr.read()
    assert process.wait() == 1
    assert "Traceback" not in stderr
    assert "BrokenPipe" not in stderr


@pytest.mark.parametrize("word", ["-h", "--help", "help"])
def test_help_is_on_stdout(capfd: pytest.CaptureFixture[str], word: str) -> None:
    assert cli.main([word]) == 0
    out = capfd.readouterr().out
    assert all(f"  {verb} " in out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_arguments_a_run_and_help(capfd: pytest.CaptureFixture[str], verb: str) -> None:
    module: Any = importlib.import_module(cli.get_module_name(verb))
    assert is_dataclass(module.Arguments)
    assert callable(module.run)
    assert (module.__doc__ or "").startswith(f"`lacuna {verb}`: ")
    assert cli.main([verb, "--help"]) == 0
    out = capfd.readouterr().out
    assert f"lacuna {verb}" in out
    options = {field.name for field in fields(module.Arguments)} - {"recipe", "config", "command"}
    assert all(option.replace("_", "-") in out.lower() for option in options)


def test_the_help_of_shard_lists_the_names_that_it_takes(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["shard", "--help"]) == 0
    text = " ".join(capfd.readouterr().out.replace("│", " ").split())
    for option, names in (("--source", DATASETS), ("--resize", RESIZES), ("--encode", ENCODERS)):
        (said,) = re.findall(rf"{option} STR (.*?)\((?:required|default)", text)
        listed = set(re.findall(r"[\w-]+", said.replace("-large or -small", "places365-large places365-small")))
        assert names.keys() <= listed, names.keys() - listed


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("verb", VERBS)
def test_help_keeps_within_the_width(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str, columns: int
) -> None:
    """The line of usage is tyro's, which does not wrap it."""
    monkeypatch.setenv("COLUMNS", str(columns))
    assert cli.main([verb, "--help"]) == 0
    _, *lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > columns] == []


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ("train", "nonsense", "--data", "d", "--out", "o"),
            r"unknown recipe 'nonsense': `lacuna recipe` lists all \d\d",
        ),
        (("recipe", "spn-celebb"), "unknown recipe 'spn-celebb': nearest are spn-celeba, .*`lacuna recipe` lists"),
        (("shard", "--source", "imagenet", "--out", "o"), "unknown source 'imagenet': use one of ade20k-aim, celeba"),
        (("shard", "--source", "folder", "--out", "{tmp}/o"), "--root is missing: .*folder"),
        (
            ("shard", "--source", "folder", "--root", "{tmp}/no", "--out", "{tmp}/o"),
            "no folder or archive at .*/no: give",
        ),
        (("train", "deepgin-demo", "--data", "{tmp}/no", "--out", "{tmp}/o"), "no dataset at .*/no: .*lacuna shard"),
        (("evaluate", "--model", "telea", "--data", "{tmp}/no", "--out", "{tmp}/o"), "no dataset at .*/no"),
        (("register", "--checkpoint", "c", "--scores", "{tmp}/no", "--name", "n"), r"no scores\.json at .*/no"),
        (("verify",), "bad usage: see `lacuna verify --help`"),
        (("verify", "a", "b"), "bad usage"),
        (("shard", "--source", "folder", "--out", "o", "--holdout", "much"), "bad usage"),
        (("fill", "--hole", "teal"), "bad usage"),
        (("submit", "shard"), "--cluster ADDRESS is missing"),
        (("submit", "--cluster", "http://127.0.0.1:9"), "no verb given: use one of demo, shard"),
        (("submit", "--cluster", "http://127.0.0.1:9", "dance"), "cannot submit 'dance': use one of demo"),
        (("submit", "--cluster", "http://127.0.0.1:9", "submit"), "cannot submit 'submit'"),
        (("demo", "--out", ""), "a path or URI is empty: give a folder"),
        (("weights", "vgg.pth", "--out", ""), "a path or URI is empty: give a folder"),
        (("weights", "vgg.pth", "--out", "http://127.0.0.1:9/o"), "is read-only, as all of http://"),
        (("probe", "--out", "github://o:r@main/o"), "is read-only, as all of github://"),
        (("stream", "d", "--out", "zip://o.png"), "is read-only, as all of zip://"),
        (
            ("fill", "--model", "telea", "--image", "i", "--mask", "m", "--out", "tar://o.png"),
            "is read-only, as all of tar://",
        ),
        (("demo", "--out", "s3://bucket/demo"), "--out is s3://bucket/demo: give a local folder"),
        (("demo", "--source", "imagenet"), "unknown source 'imagenet'"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_bad_usage_says_what_and_what_to_do(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], error: str
) -> None:
    code, report, _ = run(capfd, *(word.replace("{tmp}", str(tmp_path)) for word in words))
    assert code == 2, report
    assert report["verb"] == words[0]
    assert re.search(error, report["error"])
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"] == []


@pytest.mark.parametrize(
    ("fault", "code", "error"),
    [
        (UsageError("no such field: give another"), 2, "no such field: give another"),
        (JobError("not finite"), 1, "not finite"),
        (CorruptDataError("a.tar is damaged"), 1, "a.tar is damaged"),
        (VerbError("kept", {"promoted": False}), 1, "kept"),
        (VerbError("the job's own code", {}, 7), 7, "the job's own code"),
        (FileNotFoundError("no file at x"), 1, "no file at x"),
        (OSError(28, "no space to write x: free some"), 1, "no space to write x: free some"),
        (ConnectionError("no cluster"), 1, "no cluster"),
        (ZeroDivisionError("by zero"), 1, "ZeroDivisionError: by zero"),
        (KeyboardInterrupt(), 1, "interrupted: run the same command again to continue"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_fault_is_a_report_with_a_true_exit_code(
    capfd: pytest.CaptureFixture[str], verb: ModuleType, fault: BaseException, code: int, error: str
) -> None:
    def fail(_: object) -> dict[str, Any]:
        raise fault

    verb.run = fail  # type: ignore[attr-defined]
    found, report, stderr = run(capfd, "trial")
    assert (found, report["error"]) == (code, error)
    assert f"error: {error}" in stderr
    assert ("Traceback" in stderr) == isinstance(fault, ZeroDivisionError)
    assert report.get("promoted", False) is False


def test_the_report_of_a_fault_carries_what_was_found(capfd: pytest.CaptureFixture[str], verb: ModuleType) -> None:
    def keep(_: object) -> dict[str, Any]:
        raise VerbError("kept", {"champion_version": "3"})

    verb.run = keep  # type: ignore[attr-defined]
    assert run(capfd, "trial")[1]["champion_version"] == "3"


def test_a_verb_in_use_says_by_whom(capfd: pytest.CaptureFixture[str], tmp_path: Path, photos: Path) -> None:
    hold = "with lock_folder(sys.argv[1]):\n print(1, flush=True)\n input()"
    code = f"import sys\nfrom infra.lock import lock_folder\n{hold}"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline()
    found, report, _ = run(capfd, "shard", "--source", "folder", "--root", str(photos), "--out", str(tmp_path))
    assert found == 2
    assert report["error"] == f"process {other.pid} works in {tmp_path}: wait for its end, or give another --out"
    other.communicate(b"\n")


def test_a_store_without_keys_says_what_to_set(tmp_path: Path) -> None:
    nowhere = {name: str(tmp_path / "none") for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "HOME")}
    nowhere |= {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    words = ("evaluate", "--model", "telea", "--data", "s3://nobody/data", "--out", str(tmp_path / "scores"))
    code, report, stderr = lacuna(*words, cwd=PROJECT_ROOT, **nowhere)
    assert code == 1
    assert report["error"].startswith("s3://nobody/data/dataset.json: no keys for its store: set AWS_ACCESS")
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("fault", "words"), [(MemoryError(), "not enough memory"), (EOFError("cut"), "cut"), (OSError(), "OSError")]
)
def test_a_fault_always_has_a_message(fault: Exception, words: str) -> None:
    assert words in cli._format_fault(fault)
