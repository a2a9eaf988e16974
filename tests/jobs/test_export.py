"""`lacuna export`: what the file says of itself, what is refused, and that a wrong file is never written."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from infra.settings import PROJECT_ROOT
from infra.tracking import Tracking
from infra.uris import InvalidURIError
from jobs.export import Arguments, run
from jobs.recipes import find_recipe
from nets import build_network, describe_network
from pipelines.checkpoints import Checkpoint, save_checkpoint
from pipelines.export import formats, run_file
from pipelines.export.formats import Format, read_facts, write_file
from pipelines.export.trial import compare_fills, make_trial_pairs, run_in_process
from pipelines.records import CorruptDataError, JobError, UsageError, canonical_json
from pipelines.versions import list_files, make_version_tags
from tests.making import lacuna

pytestmark = pytest.mark.thorough

NETWORK = {"name": "pc", "config": {"widths": (4, 8, 8), "kernels": (5, 3, 3), "residual": True}}
SIZE_PX = 32


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """One of a network that is traced in a moment."""
    return make_checkpoint(tmp_path / "run")


def make_checkpoint(out: Path, scale: float = 1.0) -> Checkpoint:
    torch.manual_seed(0)
    generator = {name: scale * tensor for name, tensor in build_network(NETWORK).state_dict().items()}
    facts = {"images_seen": 4, "network": NETWORK, "size_px": SIZE_PX, "recipe": {"name": "tiny"}, "run_id": "a1b2"}
    return save_checkpoint(str(out), {"generator": generator}, facts)


@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_the_file_says_which_model_it_is(checkpoint: Checkpoint, tmp_path: Path, form: Format) -> None:
    out = tmp_path / "deep" / "file"
    report = run(Arguments(str(tmp_path / "run"), form, str(out)))
    facts = read_facts(out.read_bytes())
    assert facts is not None
    assert facts["weights_sha256"] == checkpoint.file_sha256("generator")
    assert (facts["recipe"], facts["model"], facts["size_px"]) == ("tiny", "run a1b2 after 4 images", "32")
    assert json.loads(facts["network"])["name"] == "pc"
    assert str(tmp_path).encode() not in out.read_bytes()
    assert report["bytes"] == out.stat().st_size
    assert report["largest_difference"] <= 1e-4
    assert facts.items() <= report.items()
    run(Arguments(str(tmp_path / "run"), form, str(out)))  # over a file of ours


def test_torch_alone_reads_the_facts(checkpoint: Checkpoint, tmp_path: Path) -> None:
    out = tmp_path / "file.pt"
    run(Arguments(checkpoint.uri, "torchscript", str(out)))
    extra = {"lacuna.json": b""}
    torch.jit.load(out, _extra_files=extra)  # type: ignore[no-untyped-call]
    assert json.loads(extra["lacuna.json"]) == read_facts(out.read_bytes())


@pytest.mark.parametrize(
    ("form", "name", "other"), [("torchscript", "m.ONNX", "onnx"), ("onnx", "m.pt", "torchscript")]
)
def test_a_name_of_the_other_format_is_refused(
    checkpoint: Checkpoint, tmp_path: Path, form: Format, name: str, other: str
) -> None:
    with pytest.raises(UsageError, match=rf"--format is {form}, --out is .*/{name}: .*, or give --format {other}"):
        run(Arguments(checkpoint.uri, form, str(tmp_path / name)))
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("option", ["model", "out"])
def test_an_option_that_is_empty_is_named(checkpoint: Checkpoint, option: str) -> None:
    words = {"model": checkpoint.uri, "out": "file.pt", option: ""}
    with pytest.raises(UsageError, match=f"--{option} is empty: give it a value"):
        run(Arguments(format="torchscript", **words))


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("pipe", "it is there and is no exported model"),
        ("new/", "a folder: name a file to write to"),
        ("file/model.pt", "cannot be a folder: .* is a file"),
    ],
)
def test_what_can_be_no_file_is_refused_before_work(
    checkpoint: Checkpoint, tmp_path: Path, out: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"mine")
    monkeypatch.setattr("jobs.export.open_source", None)  # nothing is opened
    with pytest.raises(ValueError, match=words):
        run(Arguments(checkpoint.uri, "torchscript", f"{tmp_path}/{out}"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("data", [b"mine", b"", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_not_ours_is_not_written_over(checkpoint: Checkpoint, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    for out in (tmp_path / "file", tmp_path):
        with pytest.raises(UsageError, match="it is there and is no exported model"):
            run(Arguments(checkpoint.uri, "torchscript", str(out)))
    assert (tmp_path / "file").read_bytes() == data


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "file"
    reasons = {
        "telea": "telea is a method of OpenCV, not a network",
        str(tmp_path / "nothing"): "no checkpoint at .*ing",
    }
    for model, words in reasons.items():
        with pytest.raises(UsageError, match=words):
            run(Arguments(model, "torchscript", str(out)))
    with pytest.raises(InvalidURIError, match="is read-only, as all of https://"):
        run(Arguments("telea", "torchscript", "https://host/file"))
    assert not out.exists()


def test_without_its_packages_onnx_is_refused_in_words(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name))
    with pytest.raises(UsageError, match=r"needs the package onnxruntime: run pip install 'lacuna\[export\]'"):
        run(Arguments(checkpoint.uri, "onnx", str(tmp_path / "file")))


def test_damaged_weights_are_not_exported(checkpoint: Checkpoint, tmp_path: Path) -> None:
    file = Path(checkpoint.uri) / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CorruptDataError, match=r"generator\.safetensors"):
        run(Arguments(checkpoint.uri, "torchscript", str(tmp_path / "file")))


def test_weights_that_are_no_numbers_are_not_written(tmp_path: Path) -> None:
    broken = make_checkpoint(tmp_path / "broken", float("nan"))
    with pytest.raises(
        JobError, match=r"differs from the network by nan at 1 photos of 32x32 px: .* nothing was written"
    ):
        run(Arguments(broken.uri, "torchscript", str(tmp_path / "file")))
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_a_file_of_other_weights_fails_its_trial(form: Format) -> None:
    torch.manual_seed(0)
    network, other = build_network(NETWORK), build_network(NETWORK)
    with pytest.raises(JobError, match=rf"the {form} file differs from the network by .* more than 0\.0001"):
        compare_fills(write_file(other, {}, form), network, SIZE_PX, form)
    with pytest.raises(JobError, match=f"the {form} file does not run without Lacuna"):
        run_in_process(b"no model", make_trial_pairs(SIZE_PX), form)


def test_the_trial_cannot_import_lacuna() -> None:
    code = "import sys, runpy\nsys.argv = ['', 'none', '', '', '']\ntry: runpy.run_path({!r}, run_name='__main__')\n"
    code += "except KeyError: pass\nfor name in ('nets', 'pipelines', 'jobs', 'infra'):\n try: __import__(name)\n"
    code += " except ImportError: print(name)\n"
    command = [sys.executable, "-I", "-c", code.format(run_file.__file__)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["nets", "pipelines", "jobs", "infra"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["deepgin-celebahq", "distill-celeba", "mhtma-celebahq", "spl-celeba", "spn-celeba"])
def test_the_papers_networks_are_exported_in_full_size(recipe: str) -> None:
    network = build_network(describe_network(find_recipe(recipe).objective.network))
    assert compare_fills(write_file(network, {}, "torchscript"), network, 64, "torchscript") <= 1e-4


@pytest.mark.slow
def test_the_command_exports_the_same_bytes_each_time(checkpoint: Checkpoint, tmp_path: Path) -> None:
    words = ("export", "--model", checkpoint.uri, "--format", "torchscript", "--out")
    digests = []
    for name in ("a.pt", "b.pt"):
        code, report, _ = lacuna(*words, str(tmp_path / name), cwd=PROJECT_ROOT)
        assert (code, report["out"]) == (0, str(tmp_path / name))
        digests.append(report["sha256"])
    assert digests[0] == digests[1]


@pytest.fixture
def version(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a version as registration makes it, without the scores, which export does not read."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    folder = tmp_path / "version"
    shutil.copytree(PROJECT_ROOT / "nets", folder / "code" / "nets", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "artifacts").mkdir()
    (folder / "artifacts" / "generator.safetensors").write_bytes(checkpoint.read("generator"))
    (folder / "artifacts" / "network.json").write_bytes(canonical_json({"network": NETWORK, "size_px": SIZE_PX}))
    yield folder


def add_version(folder: Path) -> None:
    tracking = Tracking(f"sqlite:///{folder.parent / 'mlflow.db'}")
    tags = {"lacuna.recipe": "tiny", "lacuna.commit": "c0ffee"} | make_version_tags(list_files(folder))
    made = tracking.create_version("faces", folder.as_uri(), tracking.open_run("run", "tiny", {}, {}), tags)
    tracking.move_alias("faces", "champion", made.number)


@pytest.mark.slow
def test_a_registered_version_is_exported_by_name_and_number(
    version: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    add_version(version)
    arguments = Arguments("models:/faces@champion", "torchscript", str(tmp_path / "file"))
    for model in (arguments.model, "models:/faces/1"):
        report = run(replace(arguments, model=model))
        assert (report["model"], report["recipe"]) == ("models:/faces/1", "tiny")
        assert report["weights_sha256"] == checkpoint.file_sha256("generator")
    weights = version / "artifacts" / "generator.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    with pytest.raises(CorruptDataError, match=r"models:/faces/1: artifacts/generator\.safetensors has SHA-256"):
        run(arguments)


@pytest.mark.slow
def test_a_version_of_other_code_is_refused(version: Path, tmp_path: Path) -> None:
    (version / "code" / "nets" / "losses.py").write_text("other = 1\n")
    add_version(version)
    with pytest.raises(UsageError, match=r"another nets/losses\.py than .* code of its commit, c0ffee"):
        run(Arguments("models:/faces@champion", "torchscript", str(tmp_path / "file")))
    assert not (tmp_path / "file").exists()
