"""Stores that are not as one wishes: some ignore conditions, some are busy; and what of their faults is tried again."""

import errno
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec
import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
)
from fsspec.implementations.memory import MemoryFileSystem
from s3fs.errors import translate_boto_error  # type: ignore[import-untyped]

from infra import object_store, storage


class _Peer(MemoryFileSystem):  # type: ignore[misc]
    """A store in memory that can ignore conditions, count requests, and raise faults before it answers."""

    protocol = "peer"
    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec has it
    pseudo_dirs = [""]  # noqa: RUF012
    heeds, seconds = True, 0.0
    faults: list[Exception] = []  # noqa: RUF012
    puts: list[str] = []  # noqa: RUF012

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        _Peer.puts.append(path)
        time.sleep(_Peer.seconds)  # in which others look and find nothing
        if _Peer.faults:
            raise _Peer.faults.pop(0)
        super().pipe_file(path, value, mode if _Peer.heeds else "overwrite", **more)

    def cat_file(self, path: str, **more: Any) -> bytes:
        if _Peer.faults:
            raise _Peer.faults.pop(0)
        return bytes(super().cat_file(path, **more))


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A URI on the peer."""
    fsspec.register_implementation("peer", _Peer, clobber=True)
    monkeypatch.setattr(object_store, "_SETTLING_SECONDS", 0.2)
    monkeypatch.setattr(object_store, "_CONFLICT_WAITS_SECONDS", (0.01, 0.01))
    _Peer.heeds, _Peer.seconds, _Peer.faults, _Peer.puts = True, 0.0, [], []
    _Peer.store.clear()
    object_store._HAS_CONDITIONS.clear()
    yield "peer://bucket/place"
    object_store._HAS_CONDITIONS.clear()


def make_fault(code: str, status: int) -> Exception:
    """What s3fs raises where S3 answers so."""
    answer = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translate_boto_error(ClientError(answer, "PutObject"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("heeds", [True, False], ids=["heeds conditions", "ignores conditions"])
def test_of_several_who_create_together_one_wins_and_its_bytes_stay(place: str, heeds: bool) -> None:
    _Peer.heeds, together = heeds, threading.Barrier(4)
    assert storage.create(f"{place}/first", b"")  # the store is known now
    _Peer.seconds = 0.05

    def race(number: int) -> bool:
        together.wait()
        return storage.create(f"{place}/file", bytes([number]))

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(race, range(4)))
    assert sum(won) == 1
    assert storage.read_bytes(f"{place}/file") == bytes([won.index(True)])


@pytest.mark.parametrize("heeds", [True, False], ids=["heeds conditions", "ignores conditions"])
def test_what_is_there_stays_and_nothing_is_left_behind(place: str, heeds: bool) -> None:
    _Peer.heeds = heeds
    assert storage.create(f"{place}/file", b"first")
    assert not storage.create(f"{place}/file", b"second")
    assert storage.read_bytes(f"{place}/file") == b"first"
    assert list(_Peer.store) == [f"{place}/file"]


def test_a_store_is_asked_once_whether_it_heeds_conditions(place: str) -> None:
    for number in range(5):
        assert storage.create(f"{place}/{number}", b"")
    assert len([path for path in _Peer.puts if ".aside-" in path]) == 2


@pytest.mark.parametrize(
    "answer", [NotImplementedError("mode"), make_fault("NotImplemented", 501)], ids=["fsspec", "S3"]
)
def test_a_store_that_does_not_know_conditions_is_written_without(place: str, answer: Exception) -> None:
    _Peer.faults = [answer]
    assert storage.create(f"{place}/file", b"first")
    assert storage.read_bytes(f"{place}/file") == b"first"


def test_a_creation_that_meets_another_is_tried_again(place: str) -> None:
    assert storage.create(f"{place}/first", b"")
    _Peer.faults = [make_fault("ConditionalRequestConflict", 409)]
    assert storage.create(f"{place}/file", b"mine")
    _Peer.faults = [make_fault("ConditionalRequestConflict", 409) for _ in range(3)]
    with pytest.raises(ConnectionError, match="run the same command again"):
        storage.create(f"{place}/other", b"mine")


PASSING = {
    "slow down": make_fault("SlowDown", 503),
    "unavailable": make_fault("ServiceUnavailable", 503),
    "internal": make_fault("InternalError", 500),
    "status alone": make_fault("500", 500),
    "request timeout": make_fault("RequestTimeout", 400),
    "timeout": TimeoutError("of the event loop"),
    "read timeout": ReadTimeoutError(endpoint_url="http://x"),
    "unreachable": EndpointConnectionError(endpoint_url="http://x"),
    "reset": ConnectionResetError("by peer"),
}
STAYING = {
    "missing": make_fault("NoSuchKey", 404),
    "forbidden": make_fault("AccessDenied", 403),
    "invalid": make_fault("InvalidArgument", 400),
    "no space": OSError(errno.ENOSPC, "full"),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_faults_that_may_pass_are_broken_connections_which_are_tried_again(place: str, fault: Exception) -> None:
    storage.publish(f"{place}/file", b"12345")
    for request in (
        lambda: storage.read_bytes(f"{place}/file"),
        lambda: storage.read_range(f"{place}/file", 0, 3),
        lambda: storage.read_below(place, "file"),
        lambda: storage.publish(f"{place}/file", b"12345"),
    ):
        _Peer.faults = [fault]
        with pytest.raises(ConnectionError):
            request()
        request()


@pytest.mark.parametrize("fault", STAYING.values(), ids=STAYING)
def test_faults_that_stay_are_not(place: str, fault: Exception) -> None:
    _Peer.faults = [fault]
    with pytest.raises(type(fault)) as caught:
        storage.read_range(f"{place}/file", 0, 3)
    assert not isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize(
    "fault", [NoCredentialsError(), PartialCredentialsError(provider="x", cred_var="y")], ids=["none", "half"]
)
def test_without_keys_the_message_says_what_to_set(place: str, fault: Exception) -> None:
    _Peer.faults = [fault]
    with pytest.raises(PermissionError, match=r"/file: no keys for its store: set AWS_ACCESS_KEY_ID"):
        storage.read_range(f"{place}/file", 0, 3)


def test_a_disk_that_fails_is_no_broken_connection(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "disk")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.cat_file", fail)
    with pytest.raises(OSError, match="disk") as caught:
        storage.read_bytes(str(tmp_path / "file"))
    assert not isinstance(caught.value, ConnectionError)
