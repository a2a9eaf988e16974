"""Calls to services that fail for a while."""

import pytest

from infra import retry
from infra.retry import retry_transient


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three more tries, a moment apart."""
    monkeypatch.setattr(retry, "WAITS_SECONDS", (0.001, 0.001, 0.001))


class Service:
    """Fails with these faults in turn, then answers."""

    def __init__(self, *faults: Exception) -> None:
        self.faults, self.calls = list(faults), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.faults:
            raise self.faults.pop(0)
        return "answer"


def fault_of(name: str) -> Exception:
    """An exception of a class of that name, as the clients below have it."""
    kind: type[Exception] = type(name, (Exception,), {})
    return kind("throttled")


@pytest.mark.parametrize(
    "fault", [OSError(5, "SlowDown"), ConnectionResetError(), TimeoutError(), FileNotFoundError("stale")], ids=repr
)
def test_a_transient_fault_is_retried_and_reported(fault: Exception) -> None:
    service, lines = Service(fault, fault), list[str]()
    assert retry_transient(service, lines.append) == "answer"
    assert [line.partition(":")[0] for line in lines] == ["try 1 of 4 failed", "try 2 of 4 failed"]
    assert all(type(fault).__name__ in line for line in lines)


@pytest.mark.parametrize("name", ["HTTPClientError", "ClientPayloadError"])
def test_faults_of_the_clients_below_are_tried_again(name: str) -> None:
    assert retry_transient(Service(fault_of(name)), lambda _: None) == "answer"


@pytest.mark.parametrize("fault", [PermissionError("no"), ValueError("a bug"), fault_of("Elsewhere")], ids=repr)
def test_a_permanent_fault_is_raised_at_once(fault: Exception) -> None:
    service = Service(fault)
    with pytest.raises(type(fault)):
        retry_transient(service, pytest.fail)
    assert service.calls == 1


def test_the_last_fault_is_raised_when_all_tries_are_used() -> None:
    service, lines = Service(*(OSError(5, f"fault {n}") for n in range(9))), list[str]()
    with pytest.raises(OSError, match="fault 3"):
        retry_transient(service, lines.append)
    assert (service.calls, len(lines)) == (4, 3)
