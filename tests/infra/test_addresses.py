"""Where code and a token may go: this machine or TLS, whatever an address looks like."""

from ipaddress import IPv4Address
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.addresses import refuse_unsafe_address
from infra.uris import InvalidURIError


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8265",
        "http://127.9.9.9",
        "http://[::1]:8265/",
        "http://localhost:8265",
        "http://LOCALHOST",
        "https://ray.example.com",
        "https://10.0.0.1:8265/ray/",
    ],
)
def test_this_machine_and_tls_are_taken(address: str) -> None:
    refuse_unsafe_address(address, insecure=False)


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.1:8265",
        "http://ray.example.com",
        "http://127.0.0.1.evil.com",
        "http://localhost.evil.com",
        "http://0.0.0.0:8265",
        "http://127.1",
        "http://2130706433",
        "http://0x7f.0.0.1",
        "http://[::ffff:127.0.0.1]",
        "http://[fe80::1]",
    ],
)
def test_clear_http_to_others_needs_a_word(address: str) -> None:
    with pytest.raises(InvalidURIError, match=r"is clear http to another machine.*--insecure before the verb"):
        refuse_unsafe_address(address, insecure=False)
    refuse_unsafe_address(address, insecure=True)


@pytest.mark.parametrize("insecure", [False, True])
@pytest.mark.parametrize(
    "address",
    [
        "",
        "auto",
        "127.0.0.1:8265",
        "ray://127.0.0.1:10001",
        "HTTP://127.0.0.1",
        "http://",
        "http://127.0.0.1:8265 ",
        "http://127.0.0.1\n.evil.com",
        "http://127.0.0.1#@evil.com",
        "http://127.0.0.1?x=@evil.com",
        "http://①②⑦.0.0.1",
        "http://127.0.0.1:8265?token=abc",
        "file:///etc/passwd",
    ],
)
def test_what_is_no_address_is_refused_with_any_word(address: str, insecure: bool) -> None:
    with pytest.raises(InvalidURIError, match=r"give http://127.0.0.1:8265"):
        refuse_unsafe_address(address, insecure)


@pytest.mark.parametrize(
    "address",
    [
        "http://me:pass4711@127.0.0.1:8265",
        "https://pass4711@ray.example.com",
        "http://127.0.0.1@evil.com",
        "http://127.0.0.1\\@evil.com",
        "https://me:pa/ss:4711@ray.example.com",
    ],
)
def test_a_login_in_an_address_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(InvalidURIError, match=r"holds a login.*RAY_AUTH_TOKEN_PATH") as refusal:
        refuse_unsafe_address(address, insecure=True)
    assert "4711" not in str(refusal.value)


@given(st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number))), st.text(max_size=12))
def test_clear_http_is_taken_only_to_loopback(number: str, behind: str) -> None:
    address = f"http://{number}{behind}"
    try:
        refuse_unsafe_address(address, insecure=False)
    except InvalidURIError:
        return
    assert IPv4Address(str(urlsplit(address).hostname)).is_loopback


@given(st.text(max_size=30))
def test_nothing_else_gets_through(text: str) -> None:
    try:
        refuse_unsafe_address(text, insecure=False)
    except InvalidURIError:
        return
    assert text.startswith(("http://", "https://"))
    assert "@" not in text
