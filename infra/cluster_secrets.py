"""Secrets that stand in the text of a cluster file, where everyone reads them who has the file.

In: the text. Out: one line for each place, without the secret.
"""

import re
from collections.abc import Iterator
from typing import Final

from infra.credentials import has_credentials

_VALUE: Final = r"(?:'[^'\s]|\"?[^\s'\"$~/<.;])"
"""How a value begins that is one: not another variable or a file's name, but in single quotes anything is."""
_SECRETS: Final = {
    "an AWS access key": re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"BEGIN [A-Z ]*PRIVATE KEY"),
    "a token of GitHub": re.compile(r"\b(gh[pousr]_\w{30,}|github_pat_\w{30,})"),
    "a token of 64 hexadecimal digits": re.compile(r"^(?!.*(?i:sha256)).*\b[0-9a-fA-F]{64}\b"),
    "a password, key or token": re.compile(
        r"\b\w*(?:PASSWORD|PASSWD|TOKEN|API_?KEY|ACCESS_KEY|ACCESS_KEY_ID|SECRET|SECRET_KEY)=" + _VALUE
        + r"|(?i:password|passwd|secret_?access_?key|secret_key|auth_token)['\"]?\s*[:=]\s*" + _VALUE
    ),
}  # fmt: skip
_LOGIN: Final = re.compile(r"://[^/\s:@]+:[^/\s@]+@")
_PROSE: Final = re.compile(r"\s*#.*\w: \S+ \S")
"""A sentence of a comment: it has more words behind its colon than a value is."""


def secret_mistakes(text: str) -> Iterator[str]:
    """Yields the lines that hold a secret, by their numbers."""
    for number, line in enumerate(text.splitlines(), 1):
        for what in _secrets_in(line):
            yield f"line {number} holds {what}: move it to the file that LACUNA_SECRETS names"


def _secrets_in(line: str) -> Iterator[str]:
    for what, pattern in _SECRETS.items():
        if (match := pattern.search(line)) and not (":" in match[0] and _PROSE.match(line)):
            yield what
    if _LOGIN.search(line) or any(has_credentials(word) for word in line.split() if "://" in word):
        yield "a login in a URI"
