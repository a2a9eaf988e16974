"""A version is one digest: whatever is done to one of its files stops promotion, rollback and every load, by name."""

import json
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.tracking import Tracking, Version
from pipelines.checkpoints import Checkpoint
from pipelines.evaluation.models import make_network_model, open_model
from pipelines.evaluation.scorecard import Scorecard
from pipelines.records import CorruptDataError, UsageError
from pipelines.registry.package import register
from pipelines.registry.promotion import CHAMPION, PREVIOUS_TAG, promote, rollback
from pipelines.versions import DIGEST_TAG, FILES_TAG, list_files, make_version_tags
from tests.making import photo

pytestmark = pytest.mark.thorough

NAME = "sealed"


@pytest.fixture(scope="module")
def version(checkpoint: Checkpoint, card: Scorecard, tracking: Tracking) -> Version:
    return register(checkpoint, card, NAME, tracking)


@pytest.fixture(scope="module")
def store(version: Version, tracking: Tracking) -> Path:
    """The folder in which the registry keeps the files of the version."""
    folder = tracking.find_local_folder(version)
    assert folder is not None
    return folder


@contextmanager
def change_store(store: Path, change: Callable[[Path], object]) -> Iterator[None]:
    """The store after the change, for the time of the block; afterwards it is as it was."""
    kept = store.with_name("kept")
    shutil.copytree(store, kept, symlinks=True)
    try:
        change(store)
        yield
    finally:
        shutil.rmtree(store)
        kept.rename(store)


def assert_refused(version: Version, tracking: Tracking, words: str) -> None:
    """By promotion, and by the way that `fill` and `evaluate` load a model."""
    with pytest.raises(CorruptDataError, match=words):
        promote(NAME, version.number, tracking)
    assert tracking.find_alias(NAME, CHAMPION) is None
    with pytest.raises(CorruptDataError, match=words):
        open_model(version.uri)


def flip(path: Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[position % len(data)] ^= 1 << bit
    path.write_bytes(bytes(data) or b"\n")


def test_the_tags_hold_a_digest_over_all_files_that_are_stored(version: Version, store: Path) -> None:
    lines = version.tags[FILES_TAG].split("\n")
    there = {str(p.relative_to(store)) for p in store.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert [line.split(" ")[0] for line in lines] == sorted(there - {"registered_model_meta"})
    assert {
        "MLmodel",
        "model.py",
        "artifacts/network.json",
        "artifacts/scores.json",
        "artifacts/pairs.parquet",
    } <= there
    assert version.tags[DIGEST_TAG] == make_version_tags(list_files(store))[DIGEST_TAG]
    assert len(version.tags[DIGEST_TAG]) == 64


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_bit_of_any_file_stops_promotion_and_loading(
    data: st.DataObject, version: Version, tracking: Tracking, store: Path
) -> None:
    name = data.draw(st.sampled_from(sorted(list_files(store))), "file")
    position, bit = data.draw(st.integers(0, 1 << 30), "position"), data.draw(st.integers(0, 7), "bit")
    with change_store(store, lambda folder: flip(folder / name, position, bit)):
        assert_refused(version, tracking, rf"{NAME}/1: {name} has SHA-256 .*register the checkpoint again")


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_that_was_removed_or_became_a_link_stops_promotion_and_loading(
    data: st.DataObject, version: Version, tracking: Tracking, store: Path, tmp_path: Path
) -> None:
    name = data.draw(st.sampled_from(sorted(set(list_files(store)) - {"MLmodel"})), "file")
    link = data.draw(st.booleans(), "link")

    def change(folder: Path) -> None:
        same = shutil.copy(folder / name, tmp_path / "same")
        (folder / name).unlink()
        if link:
            (folder / name).symlink_to(same)

    with change_store(store, change):
        assert_refused(version, tracking, rf"{name}'? is {'a link' if link else 'missing'}")


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    folder=st.sampled_from(["", "code", "code/nets", "artifacts", "new"]),
    name=st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12),
    suffix=st.sampled_from(["", ".py", ".so", ".pyc", ".pth", ".pkl"]),
)
def test_a_further_file_stops_promotion_and_loading(
    folder: str, name: str, suffix: str, version: Version, tracking: Tracking, store: Path
) -> None:
    path = Path(folder, f"further_{name}{suffix}")

    def change(root: Path) -> None:
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(b"print('hello')\n")

    with change_store(store, change):
        assert_refused(version, tracking, rf"'{path}' was not registered with the version")


def test_a_smaller_size_in_the_description_is_refused(version: Version, tracking: Tracking, store: Path) -> None:
    def change(folder: Path) -> None:
        described = json.loads((folder / "artifacts/network.json").read_bytes())
        (folder / "artifacts/network.json").write_text(json.dumps(described | {"size_px": 16}))

    with change_store(store, change):
        assert_refused(version, tracking, r"artifacts/network\.json has SHA-256")


def test_another_list_of_files_than_the_digest_says_is_refused(version: Version, tracking: Tracking) -> None:
    text = version.tags[FILES_TAG]
    tracking.tag_version(version, {FILES_TAG: text.replace("artifacts/network.json", "artifacts/x.json")})
    try:
        with pytest.raises(CorruptDataError, match=rf"the tag {FILES_TAG} has SHA-256 .*register the checkpoint again"):
            open_model(version.uri)
    finally:
        tracking.tag_version(version, {FILES_TAG: text})


def test_a_version_without_a_digest_is_refused_and_can_be_registered_again(
    version: Version, tracking: Tracking, checkpoint: Checkpoint, card: Scorecard, store: Path
) -> None:
    tags = {key: value for key, value in version.tags.items() if key not in (DIGEST_TAG, FILES_TAG)}
    old = tracking.create_version("old", store.as_uri(), version.run_id, tags)
    for use in (lambda: promote("old", old.number, tracking), lambda: open_model(old.uri)):
        with pytest.raises(UsageError, match=r"old/1 was registered without a digest .* register the checkpoint again"):
            use()
    assert register(checkpoint, card, "old", tracking).number == "2"
    assert promote("old", "2", tracking, "weights of a test").promoted


@pytest.mark.slow
def test_a_damaged_version_registered_again_is_a_new_one(
    version: Version, tracking: Tracking, checkpoint: Checkpoint, card: Scorecard, store: Path
) -> None:
    mine = tracking.create_version("mine", store.as_uri(), version.run_id, version.tags)
    assert register(checkpoint, card, "mine", tracking) == mine
    with change_store(store, lambda folder: flip(folder / "model.py", 9)):
        assert register(checkpoint, card, "mine", tracking).number == "2"


def test_a_rollback_to_a_version_with_other_code_is_refused(
    version: Version, tracking: Tracking, store: Path, tmp_path: Path
) -> None:
    files = shutil.copytree(store, tmp_path / "two")
    for _ in range(2):
        tracking.create_version("back", files.as_uri(), version.run_id, version.tags)
    tracking.tag_version(replace(version, name="back", number="2"), {PREVIOUS_TAG: "1"})
    tracking.move_alias("back", CHAMPION, "2")
    with (files / "code/nets/filling.py").open("a") as code:
        code.write("\n\n")
    with pytest.raises(CorruptDataError, match=r"back/1: code/nets/filling\.py has SHA-256"):
        rollback("back", tracking)
    champion = tracking.find_alias("back", CHAMPION)
    assert champion is not None
    assert champion.number == "2"


def plant_compiled(source: Path, marker: Path) -> None:
    """Compiled code beside a source, which Python takes unseen, and which leaves a trace when it runs."""
    text = f"from pathlib import Path\nPath({str(marker)!r}).write_text('ran')\n" + source.read_text()
    other = source.with_name("other.py")
    other.write_text(text)
    target = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
    target.parent.mkdir(exist_ok=True)
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(other), str(target), invalidation_mode=mode, doraise=True)
    other.unlink()


def odd_photo() -> tuple[np.ndarray, np.ndarray]:
    """A photo of 70x50 and its mask, with a hole in the middle."""
    mask = np.zeros((1, 50, 70), np.uint8)
    mask[0, 15:35, 20:50] = 1
    return np.array(photo(7, 50, 70))[None], mask


def test_what_python_and_mlflow_add_is_neither_refused_nor_run(
    version: Version, tracking: Tracking, store: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"

    def change(folder: Path) -> None:
        (folder / "registered_model_meta").write_text("model_name: another\n")
        for name in ("model.py", "code/nets/__init__.py", "code/nets/filling.py"):
            plant_compiled(folder / name, marker)

    with change_store(store, change):
        filled = open_model(version.uri).fill(*odd_photo())
    assert np.array_equal(filled, make_network_model(checkpoint).fill(*odd_photo()))
    assert not marker.exists()


USER = """
import json, sys
import mlflow, numpy as np
arrays = dict(np.load(sys.argv[1]))
for folder in sys.argv[2:]:
    try:
        model = mlflow.pyfunc.load_model(folder)
    except Exception as fault:
        print(json.dumps(str(fault)))
    else:
        print(json.dumps(int(model.predict(arrays).sum())))
"""
"""A user's own process: it knows nothing of ours."""


def load_as_user(folders: list[Path], tmp_path: Path) -> list[Any]:
    """For each folder the fault with which a plain MLflow refuses it, or the sum of the levels of a fill."""
    image, mask = odd_photo()
    np.savez(tmp_path / "photo.npz", image=image, mask=mask)
    words = [sys.executable, "-c", USER, str(tmp_path / "photo.npz"), *map(str, folders)]
    environment = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "HOME": "/tmp"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def plant_module(folder: Path, name: str, marker: Path) -> None:
    """Code that leaves a trace when it runs, under the name of an installed package or behind our own."""
    path = folder / "code" / name
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as code:
        code.write(f"\nfrom pathlib import Path\nPath({str(marker)!r}).write_text('ran')\n")


def test_no_planted_code_runs_before_it_is_refused(store: Path, tmp_path: Path) -> None:
    """MLflow puts `code/` before all installed packages, and a list that is gone refuses as one that differs."""
    marker = tmp_path / "ran"
    planted = ["torch.py", "safetensors/__init__.py", "safetensors/torch.py", "nets/__init__.py"]
    folders = [shutil.copytree(store, tmp_path / str(number)) for number in range(len(planted))]
    for folder, name in zip(folders, planted, strict=True):
        plant_module(folder, name, marker)
    (folders[-1] / "artifacts/files.json").unlink()
    refused = load_as_user(folders, tmp_path)
    for fault, name in zip(refused, ["code/torch.py", *["code/safetensors/"] * 2, "artifacts/files.json"], strict=True):
        assert name in fault
    assert not marker.exists()


def test_a_users_own_process_loads_what_is_whole_and_nothing_else(
    store: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """By the files alone: their list is among them."""

    def alter_files(name: str, change: Callable[[Path], object]) -> Path:
        folder = shutil.copytree(store, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        change(folder)
        return folder

    marker = tmp_path / "ran"
    size = b'"size_px":32'
    folders = [
        alter_files("size", lambda f: replace_bytes(f / "artifacts/network.json", size, b'"size_px":16')),
        alter_files("weights", lambda f: flip(f / "artifacts/generator.safetensors", 99_999)),
        alter_files("code", lambda f: (f / "code/nets/filling.py").open("a").write("\n\n")),
        alter_files("model", lambda f: (f / "model.py").open("a").write("\n\n")),
        alter_files("further", lambda f: (f / "code/nets/further.py").write_text("")),
        alter_files("gone", lambda f: (f / "artifacts/pairs.parquet").unlink()),
        alter_files("list", lambda f: (f / "artifacts/files.json").unlink()),
        alter_files("compiled", lambda f: plant_compiled(f / "code/nets/filling.py", marker)),
    ]
    *refused, filled = load_as_user(folders, tmp_path)
    words = ["artifacts/network.json", "artifacts/generator.safetensors", "code/nets/filling.py", "model.py"]
    words += ["code/nets/further.py", "artifacts/pairs.parquet", "artifacts/files.json"]
    for fault, name in zip(refused, words, strict=True):
        assert name in fault
    assert filled == make_network_model(checkpoint).fill(*odd_photo()).sum()
    assert not marker.exists()


def replace_bytes(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def test_a_second_version_with_other_code_is_not_served_by_the_code_of_the_first(store: Path, tmp_path: Path) -> None:
    """In one process Python keeps the modules that it has."""
    second = shutil.copytree(store, tmp_path / "second")
    with (second / "code/nets/filling.py").open("a") as code:
        code.write("\n\nNEWER = True\n")
    listed = json.loads((second / "artifacts/files.json").read_bytes())
    listed["code/nets/filling.py"] = list_files(second)["code/nets/filling.py"]
    (second / "artifacts/files.json").write_text(json.dumps(listed))
    first, refusal = load_as_user([store, second], tmp_path)
    assert isinstance(first, int)
    assert "is not the code of this version: load the version in a fresh process" in refusal
