"""Storage: what is published appears at once and whole, or not at all; lists are in one order; faults name the URI."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import storage
from infra.settings import PROJECT_ROOT

NAMES = (
    "a",
    "a.b",
    "b b",
    "ü.png",
    "日本",
    "#1",
    "50%",
    "q?x=1",
    "star*",
    "[0]",
    "~",
    "back\\slash",
    "line\nbreak",
    ".x",
)
MEGABYTE = 1 << 20


@pytest.fixture(params=["plain", "file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A URI of each kind under which nothing is."""
    uri = {"plain": f"{tmp_path}/place", "file": f"file://{tmp_path}/place", "memory": "memory://storage-test/place"}
    yield uri[request.param]
    storage.remove(uri[request.param])


def test_what_is_published_is_read(place: str, tmp_path: Path) -> None:
    storage.publish(storage.join(place, "deep", "er", "one"), b"12345")
    (tmp_path / "source").write_bytes(b"67890")
    storage.publish_file(storage.join(place, "two"), tmp_path / "source")
    assert storage.read_bytes(f"{place}/deep/er/one") == b"12345"
    assert storage.read_bytes(f"{place}/two") == b"67890"
    assert list(storage.list_files(place)) == [("two", 5), ("deep/er/one", 5)]


def test_a_second_publication_replaces_the_first(place: str, tmp_path: Path) -> None:
    storage.publish(f"{place}/x", b"a much longer first one")
    storage.publish(f"{place}/x", b"second")
    assert storage.read_bytes(f"{place}/x") == b"second"
    (tmp_path / "source").write_bytes(b"")
    storage.publish_file(f"{place}/x", tmp_path / "source")
    assert list(storage.list_files(place)) == [("x", 0)]


def test_existence_and_removal(place: str) -> None:
    storage.remove(place)
    assert not storage.exists(place)
    for name in ("x/1", "x/y/2", "z"):
        storage.publish(f"{place}/{name}", b"")
    assert storage.exists(f"{place}/x")
    storage.remove(f"{place}/x")
    assert not storage.exists(f"{place}/x/y/2")
    assert not storage.exists(f"{place}/x")
    storage.remove(f"{place}/z")
    assert not storage.exists(f"{place}/z")


def test_a_missing_file_is_named(place: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"no file at {place}/nothing"):
        storage.read_bytes(f"{place}/nothing")


def test_a_digest_is_that_of_the_bytes(place: str) -> None:
    data = bytes(range(251)) * 10_000
    storage.publish(f"{place}/x", data)
    digest = hashlib.sha256()
    assert storage.digest_file(f"{place}/x", digest) == len(data) > 2 * MEGABYTE
    assert digest.hexdigest() == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", [*NAMES, "a::b", "memory::x"])
def test_odd_names_are_only_names(tmp_path: Path, name: str) -> None:
    storage.publish(storage.join(str(tmp_path), "folder", name), b"odd")
    assert [p.name for p in (tmp_path / "folder").iterdir()] == [name]
    (tmp_path / "folder" / "a").write_bytes(b"another")
    assert storage.read_bytes(storage.join(str(tmp_path), "folder", name)) == (b"another" if name == "a" else b"odd")


def test_lists_are_folder_by_folder_in_byte_order(place: str) -> None:
    paths = [*NAMES, "m/2", "m/10", "m/Z", "m/a", "M/x", "m.x", "m-x", "m/deep/er"]
    for path in paths:
        storage.publish(storage.join(place, path), path.encode())
    listed = list(storage.list_files(place))
    assert listed == [
        (p, len(p.encode())) for p in sorted(paths, key=lambda p: [part.encode() for part in f"/{p}".rsplit("/", 1)])
    ]


def test_what_is_written_aside_is_not_listed(place: str) -> None:
    for path in (".aside-0123456789ab", "x/.aside-1", ".aside-folder/y", "x/y", "aside-z"):
        storage.publish(storage.join(place, path), b"")
    assert [path for path, _ in storage.list_files(place)] == ["aside-z", "x/y"]


def test_a_link_to_a_file_is_a_file_and_one_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in/folder").mkdir(parents=True)
    (tmp_path / "in/folder/file").write_bytes(b"12")
    (tmp_path / "in/link").symlink_to(tmp_path / "in/folder/file")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    listed = [path for path, _ in storage.list_files(str(tmp_path / "in"))]
    assert {"folder/file", "link"} <= set(listed)
    assert not any(path.startswith("loop/") for path in listed)


@pytest.mark.parametrize(
    ("uri", "path"), [("/a/b", "/a/b"), ("file:///a/b", "/a/b"), ("memory://a/b", None), ("relative", "relative")]
)
def test_local_uris_have_a_path(uri: str, path: str | None) -> None:
    assert storage.to_local_path(uri) == (None if path is None else Path.cwd() / path)


def test_join_knows_one_slash() -> None:
    assert storage.join("s3://bucket/", "a", "b/c") == "s3://bucket/a/b/c"
    assert storage.join("/folder", "x") == "/folder/x"


TOO_LARGE = """
import resource, sys
from infra import storage
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    storage.publish(sys.argv[1], bytes(1 << 20))
except OSError as fault:
    print(fault)
"""


@pytest.mark.parametrize("older", [None, b"the older one"])
def test_a_write_that_fails_leaves_what_was_there_and_says_what_to_do(tmp_path: Path, older: bytes | None) -> None:
    target = tmp_path / "folder" / "target"
    target.parent.mkdir()
    if older is not None:
        target.write_bytes(older)
    command = [sys.executable, "-c", TOO_LARGE, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT_ROOT)
    assert f"no space to write {target}: free some, then run the same command again" in done.stdout
    assert {p.name: p.read_bytes() for p in target.parent.iterdir()} == ({} if older is None else {"target": older})


def test_a_file_made_on_the_same_disk_is_moved_and_not_copied(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"67890")
    inode = (tmp_path / "source").stat().st_ino
    storage.publish_file(str(tmp_path / "folder" / "target"), tmp_path / "source")
    assert (tmp_path / "folder" / "target").stat().st_ino == inode
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_failed_write_of_another_kind_leaves_nothing_aside(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(OSError, match="target"):
        storage.publish(str(tmp_path / "target"), b"a folder is in the way")
    assert [p.name for p in tmp_path.iterdir()] == ["target"]


def test_a_reader_sees_the_older_or_the_newer_file_and_nothing_between(tmp_path: Path) -> None:
    target, stop = str(tmp_path / "target"), threading.Event()
    versions = [bytes([n]) * (MEGABYTE * (n + 1) // 2) for n in range(3)]
    storage.publish(target, versions[0])

    def write() -> None:
        for turn in range(60):
            storage.publish(target, versions[turn % 3])
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not stop.is_set():
        data = storage.read_bytes(target)
        assert data in versions
        seen.add(data[0])
    writer.join()
    assert len(seen) > 1
    assert [p.name for p in tmp_path.iterdir()] == ["target"]


def test_a_scratch_folder_is_gone_afterwards_even_after_a_fault(tmp_path: Path) -> None:
    with storage.scratch_folder(str(tmp_path / "work")) as folder:
        assert folder.parent == tmp_path / "work"
        (folder / "x").write_bytes(b"")
    with pytest.raises(KeyError), storage.scratch_folder(str(tmp_path / "work")) as folder:
        raise KeyError
    assert list((tmp_path / "work").iterdir()) == []


def test_a_scratch_folder_for_a_remote_place_is_local() -> None:
    with storage.scratch_folder("memory://somewhere") as folder:
        assert folder.is_dir()
    assert not folder.exists()


def test_only_files_are_written_over(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"old")
    for name, message in {
        "folder": "folder is a folder: name a file to write to",
        "pipe": "pipe is a device or the like: name a file to write to",
        "file/new": "file/new cannot be written: a part of its path is a file and no folder",
    }.items():
        with pytest.raises(OSError, match=message):
            storage.publish(str(tmp_path / name), b"new")
    storage.publish(str(tmp_path / "file"), b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "pipe"]
