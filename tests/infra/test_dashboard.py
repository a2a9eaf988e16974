"""The client of a cluster asks the address that was checked and no other, with the token and no other login."""

import ssl
import subprocess
from pathlib import Path

import pytest

from infra.dashboard import AwayError, Dashboard
from infra.jobs import connect
from tests.listening import listening

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_no_variable_sends_the_token_elsewhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with listening() as meant, listening() as other:
        monkeypatch.setenv(name, other.address)
        Dashboard(meant.address)
    assert meant.asked
    assert other.asked == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    with (
        listening() as other,
        listening(status, Location=f"{other.address}/api/version") as meant,
        pytest.raises(ConnectionError, match="it redirects to another address"),
    ):
        Dashboard(meant.address)
    assert other.asked == []


def test_the_token_is_not_replaced_by_a_login_of_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password pass4711\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with listening() as meant:
        Dashboard(meant.address)
    assert not any((login or "").startswith("Basic") for _, _, login in meant.asked)


@pytest.mark.parametrize(("status", "kind"), [(404, FileNotFoundError), (400, ConnectionError), (503, AwayError)])
def test_answers_are_of_a_kind_that_says_whether_to_ask_again(status: int, kind: type[OSError]) -> None:
    with listening() as meant:
        client = Dashboard(meant.address)
        meant.answer = (status, b"Traceback\n  File\nValueError: it says why", {})
        with pytest.raises(kind, match="ValueError: it says why") as fault:
            client.get_job_info("job")
    assert type(fault.value) is kind
    assert "Traceback" not in str(fault.value)


def test_clear_http_at_an_address_of_https_is_said_as_such() -> None:
    with listening() as server, pytest.raises(AwayError, match=r"^it answers in plain http: give http://"):
        Dashboard(server.address.replace("http:", "https:"))
    assert server.asked == []


@pytest.mark.parametrize("status", [401, 403])
def test_words_on_a_refused_token_end_where_a_sentence_does(status: int) -> None:
    with (
        listening(status, b"no") as server,
        pytest.raises(ConnectionError, match=r"\. Give the address of its") as fault,
    ):
        connect(server.address)
    assert not any(broken in str(fault.value) for broken in ("Ensure", "Note:", "..", "RAY; "))


def test_nobody_there_is_away() -> None:
    with listening() as meant:
        client = Dashboard(meant.address)
    with pytest.raises(AwayError, match="Connection refused"):
        client.get_job_info("job")


def test_over_tls_only_a_server_with_a_trusted_certificate_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run([*words, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with listening() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        address = server.address.replace("http:", "https:")
        with pytest.raises(AwayError, match="CERTIFICATE_VERIFY_FAILED"):
            Dashboard(address)
        assert server.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        Dashboard(address)
        assert server.asked
