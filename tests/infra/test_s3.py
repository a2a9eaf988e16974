"""An object store in earnest: the same doors and the same bytes on a real S3 server as on a local disk.

The server is SeaweedFS from a package, on loopback; see tests/s3.py.
"""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from infra import storage
from infra.settings import PROJECT_ROOT
from pipelines.checkpoints import find_latest_checkpoint, save_checkpoint
from pipelines.data.shard_tar import read_index
from pipelines.manifest import open_dataset
from pipelines.stream.reading import ShardReader
from tests.making import files_of, lacuna, photo_folder
from tests.s3 import bucket, objects_of

pytestmark = pytest.mark.slow

BUCKET = "s3://lacuna"
OPTIONS = ("--source", "folder", "--holdout", "0.2", "--shard-bytes", "8000", "--mask-size-px", "32")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server with one empty bucket; this process's environment leads to it."""
    with bucket(tmp_path_factory.mktemp("s3"), "lacuna") as uri:
        yield uri


@pytest.fixture(scope="module")
def photos_of_s3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty photos on the local disk."""
    return photo_folder(tmp_path_factory.mktemp("s3-photos"), 40)


@pytest.fixture(scope="module")
def local(photos_of_s3: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their dataset on the local disk."""
    out = tmp_path_factory.mktemp("s3-local") / "data"
    code, report, stderr = shard(str(photos_of_s3), str(out))
    assert code == 0, (report, stderr)
    return out


@pytest.fixture(scope="module")
def remote(store: str, photos_of_s3: Path) -> str:
    """Their dataset on the server; tests leave it as it is."""
    code, report, stderr = shard(str(photos_of_s3), f"{BUCKET}/dataset")
    assert code == 0, (report, stderr)
    assert (report["num_inputs"], report["num_written"]) == (40, 40)
    return f"{BUCKET}/dataset"


def shard(root: str, out: str) -> tuple[int, dict[str, Any], str]:
    """`lacuna shard` as a process."""
    return lacuna("shard", *OPTIONS, "--root", root, "--out", out, cwd=PROJECT_ROOT)


def elsewhere(script: str, *words: str) -> str:
    """Runs a few lines in another process; returns what it prints."""
    command = [sys.executable, "-c", f"import sys\nfrom infra import storage\n{script}", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=PROJECT_ROOT).stdout.strip()


@pytest.fixture
def place(store: str, request: pytest.FixtureRequest) -> str:
    """A prefix of the bucket under which nothing is."""
    return f"{BUCKET}/{request.node.name.partition('[')[0]}-{time.time_ns()}"


def test_a_dataset_on_s3_has_the_files_of_a_local_one(local: Path, remote: str) -> None:
    assert objects_of(remote) == files_of(local)
    assert open_dataset(remote).manifest_sha256 == open_dataset(str(local)).manifest_sha256


def test_verify_finds_it_whole(remote: str) -> None:
    code, report, stderr = lacuna("verify", remote, cwd=PROJECT_ROOT)
    assert code == 0, (report, stderr)
    assert (report["num_samples"], report["damaged"]) == (40, [])


def test_verify_names_a_damaged_object(local: Path, place: str) -> None:
    files = files_of(local)
    name = max((n for n in files if n.endswith(".tar")), key=lambda n: len(files[n]))
    worse = bytearray(files[name])
    worse[1040] ^= 1
    for path, data in (files | {name: bytes(worse)}).items():
        storage.publish(storage.join(place, path), data)
    code, report, _ = lacuna("verify", place, cwd=PROJECT_ROOT)
    assert code == 1
    touched = [m.name.rpartition(".")[0] for m in read_index(files[name]) if m.offset <= 1040 < m.offset + m.size]
    assert [(damage["file"], damage["key"]) for damage in report["damaged"]] == [(name, None), (name, *touched)]


def test_the_same_command_again_changes_no_object(photos_of_s3: Path, remote: str) -> None:
    def state() -> dict[str, Any]:
        fs = fsspec.filesystem("s3")
        fs.invalidate_cache()
        return {name: (i["LastModified"], i["ETag"]) for name, i in fs.find(remote, detail=True).items()}

    before = state()
    code, report, _ = shard(str(photos_of_s3), remote)
    assert (code, report["num_written"]) == (0, 40)
    assert state() == before


def test_photos_on_s3_make_the_same_dataset(photos_of_s3: Path, local: Path, place: str, tmp_path: Path) -> None:
    for path in photos_of_s3.rglob("*.*"):
        storage.publish_file(storage.join(place, str(path.relative_to(photos_of_s3))), path)
    code, report, stderr = shard(place, str(tmp_path / "data"))
    assert code == 0, (report, stderr)
    assert files_of(tmp_path / "data") == files_of(local)


def test_other_settings_at_the_same_place_are_refused(photos_of_s3: Path, remote: str) -> None:
    code, report, _ = lacuna(
        "shard", *OPTIONS, "--seed", "5", "--root", str(photos_of_s3), "--out", remote, cwd=PROJECT_ROOT
    )
    assert code == 2
    assert "seed = 0, not 5" in report["error"]


def test_the_reader_gives_the_same_samples(local: Path, remote: str) -> None:
    here, there = (ShardReader((open_dataset(uri),), "train") for uri in (str(local), remote))
    places = [(shard, n) for shard, count in enumerate(here.counts) for n in range(count)]
    assert [here.read(*p) for p in places] == [there.read(*p) for p in places]


def test_a_build_on_s3_survives_a_kill(photos_of_s3: Path, local: Path, place: str) -> None:
    command = [sys.executable, "-m", "jobs.cli", "shard", *OPTIONS, "--root", str(photos_of_s3), "--out", place]
    for seconds in (0.0, random.Random(time.time_ns()).uniform(0.0, 3.0)):
        with subprocess.Popen(
            command, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            wait_until(lambda: storage.exists(f"{place}/.build/new/listed.json") or process.poll() is not None)
            time.sleep(seconds)
            process.kill()
    code, report, stderr = shard(str(photos_of_s3), place)
    assert code == 0, (report, stderr)
    assert objects_of(place) == files_of(local)


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits for a condition, two minutes at most."""
    deadline = time.monotonic() + 120
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def test_odd_names_are_only_names(place: str) -> None:
    names = ["a.b", "b b", "ü.png", "日本", "#1", "50%", "q?x=1", "star*", "[0]", "~", "+plus", "a&b=c"]
    for name in names:
        storage.publish(storage.join(place, name), name.encode())
    assert objects_of(place) == {name: name.encode() for name in names}


def test_lists_are_in_the_order_of_a_local_disk(place: str, tmp_path: Path) -> None:
    paths = ["m/2", "m/10", "m/Z", "M/x", "m.x", "m-x", "a", "m/deep/er", ".aside-1"]
    for path in paths:
        storage.publish(storage.join(place, path), b"12")
        storage.publish(storage.join(str(tmp_path), path), b"12")
    assert list(storage.list_files(place)) == list(storage.list_files(str(tmp_path)))


def test_the_marker_of_an_empty_folder_is_no_file(place: str) -> None:
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    storage.publish(f"{place}/photos/1.jpg", b"123")
    for folder in ("", "photos/", "nothing/"):
        fsspec.filesystem("s3").call_s3("put_object", Bucket=bucket, Key=f"{prefix}/{folder}", Body=b"")
    assert list(storage.list_files(place)) == [("photos/1.jpg", 3)]


def test_what_another_process_publishes_is_seen(place: str) -> None:
    storage.publish(f"{place}/first", b"1")
    assert [path for path, _ in storage.list_files(place)] == ["first"]
    elsewhere("storage.publish(sys.argv[1], b'22')", f"{place}/second")
    assert storage.exists(f"{place}/second")
    assert storage.read_bytes(f"{place}/second") == b"22"
    assert [path for path, _ in storage.list_files(place)] == ["first", "second"]


def test_what_another_process_removes_is_gone(place: str) -> None:
    for name in ("first", "second"):
        storage.publish(f"{place}/{name}", b"1")
    assert len(list(storage.list_files(place))) == 2
    elsewhere("storage.remove(sys.argv[1])", f"{place}/first")
    assert not storage.exists(f"{place}/first")
    assert [path for path, _ in storage.list_files(place)] == ["second"]


SAVE = """
import torch
from pipelines.checkpoints import save_checkpoint
for clock in map(int, sys.argv[2:]):
    save_checkpoint(sys.argv[1], {"generator": {"w": torch.full((2,), float(clock))}}, {"images_seen": clock})
"""


def test_checkpoints_of_another_process_are_found(place: str) -> None:
    save_checkpoint(place, {"generator": {"w": torch.zeros(2)}}, {"images_seen": 8})
    first = find_latest_checkpoint(place)
    assert first is not None
    assert first.images_seen == 8
    elsewhere(SAVE, place, "16", "24", "32")
    newest = find_latest_checkpoint(place)
    assert newest is not None
    assert newest.images_seen == 32
    assert newest.tensors("generator")["w"].tolist() == [32, 32]


def test_a_missing_object_is_named(place: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"no file at {place}/nothing"):
        storage.read_bytes(f"{place}/nothing")


def test_ranges_and_large_objects(place: str, tmp_path: Path) -> None:
    data = random.Random(0).randbytes(9 << 20)
    (tmp_path / "large").write_bytes(data)
    storage.publish_file(f"{place}/large", tmp_path / "large")
    assert storage.read_bytes(f"{place}/large") == data
    storage.publish(f"{place}/large", data[:10])
    assert storage.read_bytes(f"{place}/large") == data[:10]


def test_a_wrong_key_is_told_and_not_taken_for_an_empty_place(store: str, photos_of_s3: Path, remote: str) -> None:
    words = ("shard", *OPTIONS, "--root", str(photos_of_s3), "--out", remote)
    code, report, _ = lacuna(*words, cwd=PROJECT_ROOT, AWS_SECRET_ACCESS_KEY="wrong")
    assert code != 0
    assert report["error"]
    assert "num_written" not in report


def test_the_cache_of_shards_is_not_left_in_the_way(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reader = ShardReader((open_dataset(remote),), "train")
    first = reader.read(0, 0)
    shutil.rmtree(tmp_path)
    assert ShardReader((open_dataset(remote),), "train").read(0, 0) == first


def test_a_large_file_goes_up_in_parts_and_is_whole(place: str, tmp_path: Path) -> None:
    data = random.Random(0).randbytes((40 << 20) + 7)
    (tmp_path / "large").write_bytes(data)
    storage.publish_file(f"{place}/large", tmp_path / "large")
    assert storage.read_bytes(f"{place}/large") == data
    assert elsewhere("print(dict(storage.list_files(sys.argv[1])))", place) == str({"large": len(data)})
