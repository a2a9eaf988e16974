"""Listing folders ahead of their turn: the order is that of names, and a slow store is asked for some at once."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from infra import storage

names = st.sampled_from(["a", "b", "B", "a.b", "é", "0", "a-"])
trees = st.recursive(st.none(), lambda below: st.dictionaries(names, below, max_size=6), max_leaves=40)


def plant(folder: Path, tree: object) -> Iterator[str]:
    """Makes folders of dicts and files of anything else; yields the files in the order of a listing."""
    assert isinstance(tree, dict)
    names = sorted(tree, key=str.encode)
    for name in (name for name in names if not isinstance(tree[name], dict)):
        (folder / name).touch()
        yield name
    for name in (name for name in names if isinstance(tree[name], dict)):
        (folder / name).mkdir()
        yield from (f"{name}/{path}" for path in plant(folder / name, tree[name]))


@given(trees.filter(lambda tree: isinstance(tree, dict)))
@settings(max_examples=40)
def test_files_come_folder_by_folder_in_byte_order(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    wanted = list(plant(root, tree))
    assert [path for path, _ in storage.list_files(str(root))] == wanted


class _Store(MemoryFileSystem):  # type: ignore[misc]
    """A store that takes its time, and remembers how many of its folders were asked for at once."""

    now = most = asked = 0
    lock = threading.Lock()

    def ls(self, path: str, detail: bool = False, **_: object) -> object:
        with self.lock:
            _Store.now, _Store.asked = _Store.now + 1, _Store.asked + 1
            _Store.most = max(_Store.most, _Store.now)
        time.sleep(0.01)
        with self.lock:
            _Store.now -= 1
        return super().ls(path, detail)


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 60 folders with a file each, on a slow store."""
    for number in range(60):
        storage.publish(f"memory://{tmp_path}/{number:02d}/photo", b"")
    _Store.now = _Store.most = _Store.asked = 0
    monkeypatch.setattr(storage, "locate", lambda uri: (_Store(skip_instance_cache=True), uri))
    return tmp_path


def test_a_slow_store_is_asked_for_some_folders_at_once(slow: Path) -> None:
    assert [path for path, _ in storage.list_files(str(slow))] == [f"{number:02d}/photo" for number in range(60)]
    assert 2 < _Store.most <= 16
    assert _Store.asked == 61


def test_who_stops_early_does_not_have_all_folders_listed(slow: Path) -> None:
    for _ in storage.list_files(str(slow)):
        break
    assert _Store.asked <= 20


def test_a_folder_that_cannot_be_listed_is_a_fault_at_its_turn(slow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = _Store.ls

    def torn(self: _Store, path: str, detail: bool = False, **more: object) -> object:
        if path.endswith("/05"):
            raise PermissionError(13, "no", path)
        return real(self, path, detail, **more)

    monkeypatch.setattr(_Store, "ls", torn)
    listed = storage.list_files(str(slow))
    assert [next(listed)[0] for _ in range(5)] == [f"{number:02d}/photo" for number in range(5)]
    with pytest.raises(PermissionError, match="05"):
        next(listed)
