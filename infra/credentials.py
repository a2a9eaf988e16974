"""Credentials: find and hide them in text, and read them from the file that LACUNA_SECRETS names.

In: text, and a file that only its owner can read. Out: masked text, and variables of this process's environment.
"""

import os
import re
import stat
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import unquote

SECRETS_VARIABLE: Final = "LACUNA_SECRETS"
LOGIN_VARIABLES: Final = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
HOW_TO_LOG_IN: Final = (
    f"set {LOGIN_VARIABLES[0]} and {LOGIN_VARIABLES[1]}, or name a file of mode 600 that holds them in "
    f"{SECRETS_VARIABLE}; on a cluster, do so on its nodes"
)
_SERVICES: Final = (
    (*LOGIN_VARIABLES, "MLFLOW_TRACKING_TOKEN"),
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)
"""Variables that a file of secrets may set, grouped by service: a group is read together or not at all."""
_LINE: Final = re.compile(r"([A-Z_]+)=(\S|\S.*\S)")
_MAX_FILE_BYTES: Final = 1 << 16
_MODES: Final = (0o600, 0o400)

_LOGIN: Final = re.compile(
    r"://(?:"
    r"(?!\[)[^\s/@:?#]*:(?!\d+(?:[/?#\s]|$))\S*@"  # user:password@, whatever the password holds
    r"|[^\s/?#]*@)"  # user@
)
_PASSWORD: Final = re.compile(r"://(?!\[)[^\s/@:?#]*:(?!\d+(?:[/?#\s]|$)|@)\S*@")
_WEB_LOGIN: Final = re.compile(r"https?://[^\s/?#]*@", re.IGNORECASE)
_SECRET_OPTION: Final = re.compile(
    r"([?&;#](?:[\w.-]*(?:passw(?:or)?d|pwd|secret|token|signature|credential|api_?key|access_?key)[\w.-]*|sig|key)=)"
    r"[^&;\s'\"]+",
    re.IGNORECASE,
)
_NAMED_SECRET: Final = re.compile(
    r"(?:^|[\s,;{'\"])(?:--)?"
    r"[\w-]*(?:passw(?:or)?d|pwd|secret|token|credential|api[_-]?key|access[_-]?key)(?:[_-]\w+)*"
    r"(?:=|['\"]\s*:)\s*['\"]?[^\s'\"]",
    re.IGNORECASE,
)
"""NAME=value, --name=value and "name": value, where the name is one of a secret."""
_AWS_KEY: Final = re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")


class SecretsError(ValueError):
    """A file of secrets that others can read or that is malformed; the message never holds a value."""


def hide_credentials(text: str) -> str:
    """Text to show, without logins in URIs and without values of secret options in queries."""
    hidden = _hide(text)
    plain = unquote(hidden)
    return hidden if _hide(plain) == plain else _hide(plain)


def _hide(text: str) -> str:
    return _SECRET_OPTION.sub(r"\1***", _LOGIN.sub("://", text))


def has_credentials(text: str) -> bool:
    """Whether a URI in the text holds a password, a key or a token.

    A name alone before `@` does not count, as in `abfs://container@account` and `postgresql://me@host`.
    """
    return any(
        has_password(spelling) or _WEB_LOGIN.search(spelling) or _SECRET_OPTION.search(spelling)
        for spelling in (text, unquote(text))
    )


def names_secret(word: str) -> bool:
    """Whether a word of a command that is no URI gives a password, key or token by its name or form."""
    return any(_NAMED_SECRET.search(spelling) or _AWS_KEY.search(spelling) for spelling in (word, unquote(word)))


def has_password(uri: str) -> bool:
    """Whether `user:password@` stands before the host; paths may hold anything."""
    return _PASSWORD.search(uri) is not None


def load_secrets() -> None:
    """Put the variables of the file LACUNA_SECRETS into this process's environment; raise SecretsError on failure.

    If the user has set a variable of a service, all of that service stay as they are.
    """
    if name := os.environ.get(SECRETS_VARIABLE):
        _load(name)


@cache
def _load(name: str) -> None:
    found = _parse(_read_private(Path(name).expanduser()), name)
    for service in _SERVICES:
        if not any(variable in os.environ for variable in service):
            os.environ.update({variable: found[variable] for variable in service if variable in found})


def _read_private(path: Path) -> bytes:
    """Bytes of a regular file that belongs to this user and that nobody else can read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as fault:
        link = " is a symbolic link: name the file itself" if path.is_symlink() else f": {fault.strerror}"
        raise SecretsError(f"{SECRETS_VARIABLE} names {path}{link}") from None
    try:
        _refuse_readable(os.fstat(descriptor), path)
        return os.read(descriptor, _MAX_FILE_BYTES)
    finally:
        os.close(descriptor)


def _refuse_readable(facts: os.stat_result, path: Path) -> None:
    """Raise SecretsError for anything but a small file of this user that nobody else can read."""
    mode, subject = stat.S_IMODE(facts.st_mode), f"{SECRETS_VARIABLE} names {path}"
    if not stat.S_ISREG(facts.st_mode):
        raise SecretsError(f"{subject}, which is not a file")
    if facts.st_uid != os.geteuid():
        raise SecretsError(f"{subject}, which belongs to user {facts.st_uid}: it must be yours")
    if mode not in _MODES:
        raise SecretsError(f"{subject}, which has mode {mode:03o}, not 600 or 400: run `chmod 600 {path}`")
    if facts.st_size > _MAX_FILE_BYTES:
        raise SecretsError(f"{subject} of {facts.st_size} bytes: give a few lines NAME=value")


def _parse(data: bytes, name: str) -> dict[str, str]:
    """Variables by name, without empty lines and comments."""
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError:
        raise SecretsError(f"{SECRETS_VARIABLE} names {name}, which is not text: give lines NAME=value") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            variable, value = _parse_line(line, f"line {number} of {name}")
            if variable in found:
                raise SecretsError(f"line {number} of {name} sets {variable} again: keep one line of it")
            found[variable] = value
    return found


def _parse_line(line: str, where: str) -> tuple[str, str]:
    match = _LINE.fullmatch(line)
    if match is None or "\0" in line:
        raise SecretsError(f"{where} is not NAME=value: remove spaces around = and any `export`")
    variable, value = match.groups()
    if not any(variable in service for service in _SERVICES):
        allowed = ", ".join(name for service in _SERVICES for name in service)
        raise SecretsError(f"{where} sets an unknown variable: use {allowed}")
    if value[0] == value[-1] and value[0] in "'\"":
        raise SecretsError(f"{where} has quotes around the value of {variable}: remove them")
    return variable, value
