"""The verbs that build, change, check and search a dataset, with the words that users give."""

from pathlib import Path
from typing import Any

import pytest

from jobs import shard, verify, where
from jobs.faults import VerbError
from pipelines.data.commit.lock import claim_workspace, locate_workspace
from pipelines.manifest import COMMIT_FILE, open_dataset
from pipelines.records import UsageError
from tests.making import photo, photo_folder

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("ray_cluster")]

SMALL = ("--shard-bytes", "3000", "--mask-size-px", "32", "--mask-canvas-px", "64", "--holdout", "0.2")


def run_shard(*words: str) -> dict[str, Any]:
    """`lacuna shard` with these words; its report."""
    return shard.run(shard.parse(list(words)))


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A small dataset, built by the verb."""
    root = photo_folder(tmp_path / "photos", 12)
    report = run_shard("--source", "folder", "--root", str(root), "--out", str(tmp_path / "data"), *SMALL)
    assert (report["num_inputs"], report["num_written"], report["num_layers"]) == (12, 12, 1)
    return str(tmp_path / "data")


def test_a_dataset_is_changed_by_words(data: str, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    photo(900).save(tmp_path / "more" / "late.png")
    added = run_shard("--out", data, "--add", str(tmp_path / "more"))
    assert (added["num_written"], added["num_layers"]) == (13, 2)
    (tmp_path / "keys").write_text("late\nclass0/0002\n")
    removed = run_shard("--out", data, "--remove", "class0/0000", f"@{tmp_path}/keys")
    assert (removed["num_written"], removed["num_removed"]) == (10, 3)
    merged = run_shard("--out", data, "--compact", "--prune")
    assert (merged["num_written"], merged["num_layers"]) == (10, 1)
    assert merged["pruned"]
    assert verify.run(verify.Arguments(data))["damaged"] == []


def test_the_report_says_whether_pixels_were_checked(
    data: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = ("--source", "folder", "--root", str(tmp_path / "photos"), *SMALL)
    assert run_shard(*root, "--out", data)["pixels_checked"] is True
    assert "--no-decode-check" not in capfd.readouterr().err
    unchecked = run_shard(*root, "--out", str(tmp_path / "unchecked"), "--no-decode-check")
    assert unchecked["pixels_checked"] is False
    assert "stored without decoding (--no-decode-check)" in capfd.readouterr().err
    (tmp_path / "more").mkdir()
    photo(901).save(tmp_path / "more" / "late.png")
    assert run_shard("--out", str(tmp_path / "unchecked"), "--add", str(tmp_path / "more"))["pixels_checked"] is False


def test_a_change_needs_to_be_named(data: str) -> None:
    with pytest.raises(UsageError, match="no change given: give --add ROOT"):
        run_shard("--out", data, "--remove")
    with pytest.raises(UsageError, match="--remove @nowhere: no such file"):
        run_shard("--out", data, "--remove", "@nowhere")


def test_a_photo_is_found_or_said_to_be_unknown(data: str) -> None:
    (place,) = where.run(where.Arguments("class0/0002", data))["places"]
    assert place["outcome"] == "written"
    assert (Path(data) / place["shard"]).exists()
    with pytest.raises(VerbError, match=r"no photo 'class0/0002\.jpg'"):
        where.run(where.Arguments("class0/0002.jpg", data))


def test_a_share_of_the_shards_is_checked(data: str) -> None:
    for path in Path(data).glob("*/*.tar"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(VerbError) as whole:
        verify.run(verify.Arguments(data))
    damaged = {damage["file"] for damage in whole.value.report["damaged"]}
    assert damaged == {f"{path.parent.name}/{path.name}" for path in Path(data).glob("*/*.tar")}
    with pytest.raises(VerbError) as half:
        verify.run(verify.Arguments(data, share=0.5))
    assert 0 < len(half.value.report["damaged"]) < len(damaged)
    for share in (0.0, 1.5):
        with pytest.raises(UsageError, match="--share"):
            verify.run(verify.Arguments(data, share=share))


def test_a_lost_record_is_made_again(data: str) -> None:
    record = Path(data, COMMIT_FILE).read_bytes()
    Path(data, COMMIT_FILE).unlink()
    with pytest.raises(UsageError, match=rf"no dataset at .*`lacuna verify {data} --rebuild`"):
        verify.run(verify.Arguments(data))
    report = verify.run(verify.Arguments(data, rebuild=True))
    assert (report["num_samples"], report["num_tables_without_rejections"]) == (12, 0)
    assert Path(data, COMMIT_FILE).read_bytes() == record


@pytest.mark.parametrize("scheme", ["", "file://", "local://"])
def test_relative_paths_are_those_of_the_caller(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_shard("--out", f"{scheme}data", "--remove", "class0/0002")["num_removed"] == 1
    for table in Path("data", "tables").iterdir():
        table.unlink()
    report = verify.run(verify.Arguments(f"{scheme}data", rebuild=True))
    assert (report["num_samples"], report["num_tables_without_rejections"], report["damaged"]) == (11, 1, [])


def test_a_damaged_record_is_reported_with_its_repair(data: str) -> None:
    record = Path(data, COMMIT_FILE).read_bytes()
    Path(data, COMMIT_FILE).write_bytes(record[:-1])
    with pytest.raises(VerbError, match=rf"1 damages .*{COMMIT_FILE}.*`lacuna verify {data} --rebuild`"):
        verify.run(verify.Arguments(data))
    assert verify.run(verify.Arguments(data, rebuild=True))["damaged"] == []
    assert Path(data, COMMIT_FILE).read_bytes() == record


def test_pruning_beside_an_unfinished_change_is_refused(data: str) -> None:
    claim_workspace(locate_workspace(open_dataset(data)), {"change": "--add"})
    for change in (["--prune"], ["--remove", "class0/0002"]):
        with pytest.raises(UsageError, match=r"unfinished change \(--add\)"):
            run_shard("--out", data, *change)


def test_one_change_at_a_time(data: str) -> None:
    with pytest.raises(UsageError, match="give one of --add, --remove and --compact"):
        run_shard("--out", data, "--compact", "--remove", "class0/0002")


def test_what_the_record_does_not_name_is_reported_and_is_no_damage(data: str) -> None:
    old = {f"{path.parent.name}/{path.name}" for path in Path(data).glob("*/*.tar")}
    run_shard("--out", data, "--remove", "class0/0002")
    Path(data, "train", "strange.tar").write_text("not a shard")
    (replaced,) = old - {shard.file for shard in open_dataset(data).shards}
    report = verify.run(verify.Arguments(data))
    assert {name for name in report["unnamed"] if name.endswith(".tar")} == {replaced, "train/strange.tar"}
    assert report["damaged"] == []
    run_shard("--out", data, "--prune")
    assert verify.run(verify.Arguments(data))["unnamed"] == ["train/strange.tar"]


def test_a_small_share_checks_one_shard_and_says_so(data: str) -> None:
    assert verify.run(verify.Arguments(data, share=0.001))["num_shards_checked"] == 1
