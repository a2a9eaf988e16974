"""Secrets in the text of a cluster file, which everyone with the file can read.

In: the text. Out: one line for each place, without the secret.
"""

import re
from collections.abc import Iterator
from typing import Final

from infra.credentials import has_credentials

_VALUE: Final = r"(?:'[^'\s]|\"?[^\s'\"$~/<.;])"
"""Start of a literal value: no variable and no file name; in single quotes anything is literal."""
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
"""A sentence in a comment: more words follow its colon than a value has."""


def find_secrets(text: str) -> Iterator[str]:
    """Yield a message for each line that holds a secret, by its number."""
    for number, line in enumerate(text.splitlines(), 1):
        for what in _find_in_line(line):
            yield f"line {number} holds {what}: move it to the file that LACUNA_SECRETS names"


def _find_in_line(line: str) -> Iterator[str]:
    for what, pattern in _SECRETS.items():
        if (match := pattern.search(line)) and not (":" in match[0] and _PROSE.match(line)):
            yield what
    if _LOGIN.search(line) or any(has_credentials(word) for word in line.split() if "://" in word):
        yield "a login in a URI"
