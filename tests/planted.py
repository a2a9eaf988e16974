"""A user of a cluster who stands in a tree with keys: what must stay at home is planted there, and looked for later."""

import io
import json
import os
import shutil
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from infra.settings import MODULES, PACKAGES, PROJECT_ROOT
from tests.making import lacuna
from tests.ray_head import Head
from tests.relay import Relay

PLANTED = {
    name: f"planted{number}{name.lower()}4711"
    for number, name in enumerate(
        ("DOTENV", "PEM", "AWS", "TOKEN", "BLOB", "NAMED", "ENVIRONMENT", "PASSWORD", "URI", "WORDS", "NODE")
    )
}
NODE_LOGIN = b64encode(f"lacuna:{PLANTED['NODE']}".encode()).decode()


@dataclass(frozen=True)
class Cluster:
    """A head behind a relay, as a user has it who stands in a tree with keys."""

    head: Head
    relay: Relay
    tree: Path
    printed: list[str] = field(default_factory=list)
    """All that was printed on stdout and stderr so far."""

    @property
    def address(self) -> str:
        return self.relay.address

    @property
    def environment(self) -> dict[str, str]:
        planted = {"AWS_SECRET_ACCESS_KEY": PLANTED["ENVIRONMENT"], "MLFLOW_TRACKING_PASSWORD": PLANTED["PASSWORD"]}
        return self.head.environment | planted

    def submit(self, *words: str, **environment: str) -> tuple[int, dict[str, Any], str]:
        """`lacuna submit --cluster ...`."""
        words = ("submit", "--cluster", self.address, *words)
        code, report, stderr = lacuna(*words, cwd=self.tree, **self.environment | environment)
        self.printed.extend((json.dumps(report), stderr))
        return code, report, stderr


def plant_tree(folder: Path) -> Path:
    """A copy of our code, with what must stay at home beside it."""
    for package in PACKAGES:
        shutil.copytree(PROJECT_ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in MODULES:
        shutil.copy(PROJECT_ROOT / name, folder)
    (folder / "jobs" / "__init__.py").write_text("# code of this tree alone, which no cluster has before it is sent\n")
    for place in (folder / ".env", folder / "infra" / ".env"):
        place.write_text(f"KEY={PLANTED['DOTENV']}\n")
    (folder / "jobs" / "server.pem").write_text(f"-----BEGIN PRIVATE KEY-----\n{PLANTED['PEM']}\n")
    (folder / "pipelines" / ".aws").mkdir()
    (folder / "pipelines" / ".aws" / "credentials").write_text(f"aws_secret_access_key = {PLANTED['AWS']}\n")
    (folder / "pipelines" / ".aws" / "config.py").write_text(f"KEY = {PLANTED['NAMED']!r}\n")
    (folder / "nets" / "blob.bin").write_bytes(PLANTED["BLOB"].encode() + os.urandom(30 << 20))
    (folder / "token").write_text(PLANTED["TOKEN"])
    (folder / "infra" / "auth_token").symlink_to(folder / "token")
    return folder


def secrets_in(folder: Path) -> list[tuple[str, str]]:
    """Names of planted secrets that stand in files below a folder, and where."""
    found = []
    for place, _, names in os.walk(folder):  # of a cluster that is at work: files come and go
        for path in (Path(place, name) for name in names):
            with suppress(FileNotFoundError):
                data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                found += [(name, str(path)) for name, secret in PLANTED.items() if secret.encode() in data]
    return found


def find_sent_archives(streams: list[bytes]) -> list[ZipFile]:
    """The archives of code that passed."""
    found = [(stream, stream.find(b"PK\3\4"), stream.rfind(b"PK\5\6")) for stream in streams]
    return [ZipFile(io.BytesIO(stream[begin : end + 22])) for stream, begin, end in found if begin >= 0 < end]


def data_of(words: tuple[str, ...]) -> str:
    return words[words.index("--out") + 1]
