"""Mistakes in the shell commands of a cluster file: how nodes are set up, and how Ray starts on them.

In: the file as loaded. Out: one line for each mistake.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

_TOKEN: Final = "~/.ray/auth_token"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_PORT: Final = "6379"
"""Where a head listens, by default."""
_PIN: Final = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)(?:\[[a-z,]+\])?==([0-9][A-Za-z0-9.+-]*)")
_SETUPS: Final = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")


def part(config: object, key: str) -> dict[str, Any]:
    """The mapping under the key; empty where there is none, which the schema names."""
    value = config.get(key) if isinstance(config, dict) else None
    return value if isinstance(value, dict) else {}


def start_mistakes(config: dict[str, Any]) -> Iterator[str]:
    """Yields what is wrong with the commands that start Ray on the head and on workers."""
    starts = {who: _starts(config, who) for who in ("head", "worker")}
    for who, commands in starts.items():
        where = f"{who}_start_ray_commands"
        if not commands:
            yield f"{where} holds no `ray start`: add one"
        for start in commands:
            yield from (f"{where}: {what}" for what in _start_mistakes(start, config))
    for start in starts["head"]:
        yield from (f"head_start_ray_commands: {what}" for what in _head_mistakes(start))
    ports = {start.options.get("--port") or _PORT for start in starts["head"]}
    for start in starts["worker"]:
        yield from (f"worker_start_ray_commands: {what}" for what in _worker_mistakes(start, ports))


@dataclass(frozen=True)
class _Start:
    """A command with `ray start` in it."""

    command: str

    @cached_property
    def words(self) -> list[str]:
        """As a shell would split them; roughly, where quotes do not match."""
        try:
            return shlex.split(self.command.replace(";", " ; "))
        except ValueError:
            return self.command.split()

    @property
    def variables(self) -> dict[str, str]:
        """The environment that the command sets."""
        pairs = (word.partition("=") for word in self.words if re.match(r"[A-Za-z_]\w*=", word))
        return {name: value for name, _, value in pairs}

    @property
    def options(self) -> dict[str, str]:
        """Of `ray start`: those without a value have an empty one."""
        words = [*self.words, ""]
        found = {}
        for word, after in pairwise(words):
            if word.startswith("--"):
                name, equals, value = word.partition("=")
                found[name] = value if equals or after.startswith("-") else after
        return found


def _starts(config: dict[str, Any], who: str) -> list[_Start]:
    return [_Start(c) for c in _commands(config, f"{who}_start_ray_commands") if re.search(r"\bray\s+start\b", c)]


def _commands(config: dict[str, Any], key: str) -> list[str]:
    commands = config.get(key)
    return [c for c in commands if isinstance(c, str)] if isinstance(commands, list) else []


def _start_mistakes(start: _Start, config: dict[str, Any]) -> Iterator[str]:
    """Of a head and of a worker."""
    variables, host = start.variables, start.options.get("--dashboard-host", _LOOPBACK[0])
    if variables.get("RAY_AUTH_MODE") != "token":
        yield f"RAY_AUTH_MODE is {variables.get('RAY_AUTH_MODE')!r}: set RAY_AUTH_MODE=token before `ray start`"
    if host not in _LOOPBACK:
        yield f"--dashboard-host is {host}: anyone in its network could run jobs; take 127.0.0.1 and `ray dashboard`"
    if not re.search(r"ulimit\s+-S?n\s+\d", start.command):
        yield "no `ulimit -n`: Ray needs more than 1024 open files; put `ulimit -n 65536;` before it"
    yield from _secrets_mistakes(variables.get("LACUNA_SECRETS"), config)


def _secrets_mistakes(path: str | None, config: dict[str, Any]) -> Iterator[str]:
    """The file of logins: named to Ray's processes, brought to the node, and closed to others."""
    if not path:
        yield "LACUNA_SECRETS is not set: set it to the file of logins, such as $HOME/lacuna/secrets.env"
    elif _tilde(path) not in part(config, "file_mounts"):
        yield f"LACUNA_SECRETS is {path}: no file of file_mounts goes there; mount one"
    elif not _is_closed(_tilde(path), config):
        yield f"LACUNA_SECRETS is {path}: no command of setup_commands closes it; add chmod 600 {_tilde(path)}"


def _head_mistakes(start: _Start) -> Iterator[str]:
    if "--head" not in start.options:
        yield "`ray start` without --head: no cluster begins; add --head"
    if "--autoscaling-config" not in start.options:
        yield "--autoscaling-config is missing: no worker would ever start; add =~/ray_bootstrap_config.yaml"


def _worker_mistakes(start: _Start, ports: set[str]) -> Iterator[str]:
    address = start.options.get("--address", "")
    host, _, port = address.rpartition(":")
    if "--head" in start.options:
        yield "`ray start` with --head: each worker would be a cluster of its own; remove it"
    if not address:
        yield f"`ray start` without --address: it would join no cluster; add --address=$RAY_HEAD_IP:{_PORT}"
    elif host not in ("$RAY_HEAD_IP", "${RAY_HEAD_IP}"):
        yield f"--address is {address}: take $RAY_HEAD_IP and the head's port"
    elif ports and port not in ports:
        yield f"--address ends in port {port}: the head listens on {' and '.join(sorted(ports))}"


def setup_mistakes(config: dict[str, Any], folder: Path) -> Iterator[str]:
    """Yields what is wrong with the commands that set nodes up; local files are looked for from `folder`."""
    mounts = part(config, "file_mounts")
    token = _tilde(
        next((v["RAY_AUTH_TOKEN_PATH"] for v in _environments(config) if "RAY_AUTH_TOKEN_PATH" in v), _TOKEN)
    )
    if token not in mounts:
        yield f"file_mounts has no {token}: nodes would have no token; mount ~/.ray/auth_token there"
    elif not _is_closed(token, config):
        yield f"setup_commands leave {token} open to others: add chmod 600 {token}"
    if part(config, "provider").get("type") == "aws" and "head_setup_commands" not in config:
        yield "head_setup_commands is missing: Ray would install a boto3 of any version; install it by constraints"
    installs = [(where, command) for where, command in _setups(config) if re.search(r"\bpip3?\s+install\b", command)]
    for where, command in installs:
        yield from (f"{where}: {what}" for what in _install_mistakes(command, mounts, folder))
    if not part(config, "docker") and not any(re.search(r"[\s\"']ray(\[|==|\s|$)", command) for _, command in installs):
        yield "setup_commands install no ray: add ray[default,train] of our version to `pip install`"
    for where, command in _setups(config):
        if re.search(r"apt(-get)?\b.*\binstall\b", command) and "DPkg::Lock::Timeout" not in command:
            yield f"{where}: apt waits for no lock of a first boot; add -o DPkg::Lock::Timeout=300"


def _environments(config: dict[str, Any]) -> Iterator[dict[str, str]]:
    yield from (start.variables for who in ("head", "worker") for start in _starts(config, who))


def _setups(config: dict[str, Any]) -> list[tuple[str, str]]:
    """All commands that set nodes up, with the key under which they stand."""
    types = part(config, "available_node_types")
    found = [(key, command) for key in _SETUPS for command in _commands(config, key)]
    for name in types:
        at = f"available_node_types.{name}"
        found += [(f"{at}.{key}", command) for key in _SETUPS for command in _commands(part(types, name), key)]
    return found


def _install_mistakes(command: str, mounts: dict[str, Any], folder: Path) -> Iterator[str]:
    """Of a `pip install`."""
    given = re.search(r"(?:--constraint|\s-c)[\s=]+(\S+)", command)
    if not given:
        yield "`pip install` without --constraint: nodes would get other versions; add --constraint FILE"
        return
    path = _tilde(given[1])
    if path not in mounts:
        yield f"`pip install` takes constraints from {path}: no file of file_mounts goes there; mount constraints.txt"
        return
    local = folder / Path(str(mounts[path])).expanduser()
    if not local.is_file():
        yield f"file_mounts brings {mounts[path]}: there is no such file here; name our constraints.txt"
        return
    pins = {name.lower(): version for name, version in _PIN.findall(local.read_text())}
    for name, version in _PIN.findall(command):
        if pins.get(name.lower(), version) != version:
            yield f"{name} is {version}: {local.name} pins {pins[name.lower()]}; take that"


def _is_closed(path: str, config: dict[str, Any]) -> bool:
    """Whether a command gives the file the mode 600 on each node."""
    commands = [_tilde(command) for command in _commands(config, "setup_commands")]
    return any(re.search(rf"chmod\s+(0?600|go=|u=rw,go=)\s.*{re.escape(path)}(\s|$)", command) for command in commands)


def _tilde(text: str) -> str:
    """The text with the home folder in one way of writing."""
    return text.replace("${HOME}/", "~/").replace("$HOME/", "~/")
