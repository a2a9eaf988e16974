"""Addresses that code and a token may be sent to: this machine, or any other one over TLS.

In: an address as a user gave it. Out: nothing, or InvalidURIError before a byte is sent.
"""

import re
from ipaddress import ip_address, ip_network
from typing import Final

from infra.credentials import has_credentials, hide_credentials
from infra.uris import InvalidURIError

_ADDRESS: Final = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?(?:/[\w./-]*)?", re.ASCII)
_THIS_MACHINE: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_EXAMPLES: Final = "http://127.0.0.1:8265 through a tunnel, or https://HOST"


def refuse_unsafe_address(address: str, insecure: bool) -> None:
    """Raise InvalidURIError for anything but http(s), and for plain http to another machine unless `insecure`."""
    match = _ADDRESS.fullmatch(address)
    shown = hide_credentials(address)
    if match is None:
        fault = "holds a login" if has_credentials(address) else "is not an http or https address"
        raise InvalidURIError(f"--cluster {shown!r} {fault}: give {_EXAMPLES}; a token goes in RAY_AUTH_TOKEN_PATH")
    scheme, host = match.groups()
    if not (scheme == "https" or insecure or is_this_machine(host)):
        raise InvalidURIError(
            f"--cluster {shown} is clear http to another machine: code and token could be read on the way. "
            f"Give {_EXAMPLES}, or write --insecure before the verb"
        )


def is_this_machine(host: str) -> bool:
    """Whether a host's name or number is one of the loopback interface."""
    if host.lower() == "localhost":
        return True
    try:
        number = ip_address(host.strip("[]"))
    except ValueError:
        return False
    return any(number in network for network in _THIS_MACHINE)
