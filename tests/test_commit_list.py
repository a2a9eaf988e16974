"""The list of commits: what is missed where it, or what it names, is damaged or gone; runs that have none."""

import shutil
from pathlib import Path

import pytest

from infra import storage
from pipelines.checked_files import seal, unseal
from pipelines.checkpoints import (
    BEST,
    STATE_FILE,
    find_latest_checkpoint,
    has_checkpoints,
    open_checkpoint,
    repair_commit_list,
    save_checkpoint,
)
from pipelines.commit_list import LIST_FILE, read_commit_list
from pipelines.records import CorruptDataError, UsageError
from tests.test_checkpoints import HARMS, flip, harm, save_checkpoints, tensors_at


@pytest.mark.parametrize("how", HARMS)
def test_a_run_whose_list_is_lost_is_refused_until_a_training_makes_it_again(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, newest = save_checkpoints(tmp_path, 8, 16)
    before = (tmp_path / LIST_FILE).read_bytes()
    harm(tmp_path / LIST_FILE, how)
    with pytest.raises(CorruptDataError, match=rf"{tmp_path}/{LIST_FILE} .*: give {newest.uri} to use that one"):
        open_checkpoint(str(tmp_path))
    assert open_checkpoint(newest.uri) == newest
    assert find_latest_checkpoint(str(tmp_path)) == newest
    repair_commit_list(str(tmp_path))
    assert (tmp_path / LIST_FILE).read_bytes() == before
    assert "the list of commits is rebuilt from the existing checkpoints" in caplog.text
    assert open_checkpoint(str(tmp_path)) == newest


def test_files_of_another_checkpoint_in_the_place_of_the_newest_are_noticed(tmp_path: Path) -> None:
    older, newest = save_checkpoints(tmp_path, 8, 16)
    shutil.copytree(older.uri, newest.uri, dirs_exist_ok=True)
    for uri in (str(tmp_path), newest.uri):
        with pytest.raises(
            CorruptDataError, match=rf"000000000016/{STATE_FILE} is the state of 8 images.*: give {older.uri} "
        ):
            open_checkpoint(uri)
    assert find_latest_checkpoint(str(tmp_path)) == older
    shutil.copy(f"{older.uri}/{STATE_FILE}", tmp_path / LIST_FILE)
    with pytest.raises(CorruptDataError, match="is not a list of commits"):
        open_checkpoint(str(tmp_path))


def test_a_folder_removed_by_hand_is_missed(tmp_path: Path) -> None:
    older, newest = save_checkpoints(tmp_path, 8, 16)
    shutil.rmtree(newest.uri)
    for uri in (str(tmp_path), newest.uri):
        with pytest.raises(CorruptDataError, match=rf"{newest.uri}/{STATE_FILE} is missing.*: give {older.uri}"):
            open_checkpoint(uri)
    assert find_latest_checkpoint(str(tmp_path)) == older


@pytest.mark.parametrize("name", ["16", "0000000000016", "²", "٣"])
def test_a_copy_made_by_hand_beside_the_checkpoints_is_none(tmp_path: Path, name: str) -> None:
    _, newest = save_checkpoints(tmp_path, 8, 16)
    shutil.copytree(newest.uri, tmp_path / "checkpoints" / name)
    assert open_checkpoint(str(tmp_path)) == find_latest_checkpoint(str(tmp_path)) == newest
    save_checkpoints(tmp_path, 24)
    assert read_commit_list(str(tmp_path)) == (16, 24)
    assert (tmp_path / "checkpoints" / name / STATE_FILE).exists()


def test_a_run_whose_checkpoints_are_all_gone_does_not_start_over(tmp_path: Path) -> None:
    save_checkpoints(tmp_path, 8, 16)
    shutil.rmtree(tmp_path / "checkpoints")
    assert has_checkpoints(str(tmp_path))
    with pytest.raises(CorruptDataError, match="none of the 2 checkpoints"):
        find_latest_checkpoint(str(tmp_path))
    flip(tmp_path / LIST_FILE)
    for start in (repair_commit_list, find_latest_checkpoint):
        with pytest.raises(CorruptDataError, match=LIST_FILE):
            start(str(tmp_path))


@pytest.mark.parametrize(("found", "reader"), [(None, "commit ad14a54"), (1, "commit ad14a54"), (3, "that wrote it")])
def test_other_formats_are_refused_with_what_reads_them(tmp_path: Path, found: int | None, reader: str) -> None:
    (newest,) = save_checkpoints(tmp_path, 8)
    path = Path(newest.uri) / STATE_FILE
    state = unseal(path.read_bytes(), str(path)) | {"format": found}
    path.write_bytes(seal({name: value for name, value in state.items() if value is not None}))
    with pytest.raises(UsageError, match=f"{STATE_FILE} has format {found or 1}, .*use .*{reader}, or train again"):
        open_checkpoint(str(tmp_path))


def test_a_lost_list_is_damage(tmp_path: Path) -> None:
    save_checkpoints(tmp_path, 8, 16)
    (tmp_path / LIST_FILE).unlink()
    with pytest.raises(CorruptDataError, match=f"{LIST_FILE} is missing"):
        open_checkpoint(str(tmp_path))


def test_the_best_is_refused_where_it_is_damaged_or_gone(tmp_path: Path) -> None:
    best = save_checkpoints(tmp_path, 8)[0]
    for clock in (16, 24, 32):
        save_checkpoint(str(tmp_path), tensors_at(clock), {"images_seen": clock, BEST: 8}, keep=(8,))
    assert read_commit_list(str(tmp_path)) == (8, 24, 32)
    assert open_checkpoint(str(tmp_path)) == best
    newest = tmp_path / "checkpoints" / f"{32:012d}"
    flip(newest / "generator.safetensors")
    assert open_checkpoint(str(tmp_path)) == best, "filling needs no more of the newest than its state"
    for how in ("flipped", "gone"):
        harm(Path(best.uri) / "generator.safetensors", how)
        with pytest.raises(
            CorruptDataError, match=r"000000000008/generator.safetensors .*: give .*000000000024 to use"
        ):
            open_checkpoint(str(tmp_path))
    shutil.rmtree(best.uri)
    with pytest.raises(CorruptDataError, match=rf"000000000008/{STATE_FILE} is missing"):
        open_checkpoint(str(tmp_path))


def test_a_reader_that_meets_a_training_reads_what_it_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between list and checkpoint of a reader the training commits twice, and drops what the reader was to read."""
    save_checkpoints(tmp_path, 8, 16)
    read_bytes, met = storage.read_bytes, list[str]()

    def meeting(uri: str) -> bytes:
        if uri.endswith(f"000000000016/{STATE_FILE}") and not met:
            met.append(uri)
            save_checkpoints(tmp_path, 24, 32)
        return read_bytes(uri)

    monkeypatch.setattr(storage, "read_bytes", meeting)
    assert open_checkpoint(str(tmp_path)).images_seen == 32


def test_a_checkpoint_copied_out_of_its_run_opens(tmp_path: Path) -> None:
    (checkpoint,) = save_checkpoints(tmp_path / "run", 8)
    shutil.copytree(checkpoint.uri, tmp_path / "copy")
    assert open_checkpoint(str(tmp_path / "copy")).state == checkpoint.state
    flip(tmp_path / "copy" / "generator.safetensors")
    with pytest.raises(CorruptDataError, match=r"copy/generator\.safetensors is damaged"):
        open_checkpoint(str(tmp_path / "copy"))
