"""Faults that are none of the file's, bad keys of a store, a file that is gone, want of memory: none is a rejection."""

from pathlib import Path
from typing import Any

import cv2
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from infra.cluster import run_tasks
from pipelines.data.build.scan import list_source, scan_files
from pipelines.data.build.write_shard import write_shard
from pipelines.data.commit.workspace import Layout, Plan
from pipelines.data.image import decode
from pipelines.data.image.normalize import normalize_photo, normalize_plane
from pipelines.records import JobError
from tests.data.building import scan_and_resolve
from tests.data.picture_files import OTHER, RECIPE, encode
from tests.data.trees import put
from tests.making import files_of, photo, photo_folder, scene_folder, shard_recipe


def store(tmp_path: Path, folder: Path, **changes: Any) -> tuple[Plan, Layout]:
    """The plan of a build of these files in a store, and their listing."""
    root = f"memory://{tmp_path.name}/in"
    for path, data in files_of(folder).items():
        put(f"{root}/{path}", data)
    plan = Plan(root, str(tmp_path / "out"), shard_recipe(holdout=0.0, **changes), 0)
    return plan, list_source(plan)


def failing(monkeypatch: pytest.MonkeyPatch, end: str, fault: OSError) -> None:
    """From now on the store answers so for files of this end."""
    whole = MemoryFileSystem.cat_file

    def answer(self: MemoryFileSystem, path: str, *rest: Any, **more: Any) -> Any:
        if path.endswith(end):
            raise fault
        return whole(self, path, *rest, **more)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", answer)


@pytest.mark.parametrize("words", ["The provided token has expired.", "Access Denied"])
def test_keys_that_a_store_refuses_stop_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    plan, layout = store(tmp_path, photo_folder(tmp_path / "in", 4))
    failing(monkeypatch, "0002.jpg", PermissionError(words))
    with pytest.raises(ConnectionError, match=rf"class0/0002\.jpg in .*{words}; check the keys .* same command again"):
        scan_files(plan, layout, 0)


def test_keys_that_expire_before_a_plane_is_read_stop_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = scene_folder(tmp_path / "in", 2)
    plan, layout = store(tmp_path, scenes, source="ade20k-aim", splits="ade20k", planes=("seg",), shard_bytes=1 << 20)
    scan_and_resolve(plan, layout)
    failing(monkeypatch, "_seg.png", PermissionError("ExpiredToken"))
    with pytest.raises(ConnectionError, match=r"_seg\.png in .*ExpiredToken; check the keys"):
        write_shard(plan, layout, "train", 0)


@pytest.mark.parametrize("kind", ["folder", "store"])
def test_a_photo_that_is_gone_after_the_listing_stops_the_build(tmp_path: Path, kind: str) -> None:
    folder = photo_folder(tmp_path / "in", 4)
    (folder / "away.jpg").symlink_to(tmp_path / "nowhere")  # dangles from the start: its own fault
    if kind == "store":
        (folder / "away.jpg").unlink()
        plan, layout = store(tmp_path, folder)
        MemoryFileSystem().rm(f"/{tmp_path.name}/in/class0/0002.jpg")
    else:
        plan = Plan(str(folder), str(tmp_path / "out"), shard_recipe(), 0)
        layout = list_source(plan)
        (folder / "class0/0002.jpg").unlink()
    with pytest.raises(JobError, match=r"class0/0002\.jpg under .* was listed and is gone: put it back"):
        scan_files(plan, layout, 0)


TOO_LITTLE = [
    MemoryError(),
    cv2.error("OpenCV(4.12.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 24964608 bytes"),
    ValueError("Insufficient memory (case 4)"),
]
TOO_LITTLE[1].code = -4  # type: ignore[attr-defined]


@pytest.mark.parametrize("fault", TOO_LITTLE, ids=["python", "opencv", "libjpeg"])
def test_want_of_memory_is_no_reason_to_reject(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_little(*_: object) -> None:
        raise fault

    monkeypatch.setattr(decode, "_to_rgb", too_little)
    with pytest.raises(MemoryError):
        normalize_photo(OTHER["rgba"], RECIPE)


def test_want_of_memory_names_the_photo_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_little(*_: object) -> None:
        raise MemoryError("8 GB")

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "big.png").write_bytes(encode(photo(1).convert("RGBA"), "PNG"))
    plan = Plan(str(tmp_path / "in"), str(tmp_path / "out"), shard_recipe(holdout=0.0), 0)
    layout = list_source(plan)
    scan_and_resolve(plan, layout)
    monkeypatch.setattr(decode, "_to_rgb", too_little)
    with pytest.raises(MemoryError, match=r"not enough for big\.png \(8 GB\): run the same command again with fewer"):
        write_shard(plan, layout, "train", 0)


def test_want_of_memory_in_a_plane_is_no_reason_either(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = encode(photo(1), "PNG")
    recipe = shard_recipe(resize="squash", size_px=36)
    assert isinstance(normalize_plane(raw, raw, recipe), bytes)

    def too_little(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.Image.Image.resize", too_little)
    with pytest.raises(MemoryError):
        normalize_plane(raw, raw, recipe)


def _scarce_once(flag: str) -> str:
    if not Path(flag).exists():
        Path(flag).touch()
        raise MemoryError("busy")
    return "done"


@pytest.mark.usefixtures("ray_cluster")
def test_a_task_that_lacked_memory_is_tried_again(tmp_path: Path) -> None:
    assert list(run_tasks(_scarce_once, [(str(tmp_path / "flag"),)])) == ["done"]
