"""Mistakes in the shell commands of a cluster file, which set nodes up and start Ray on them.

In: the file as loaded. Out: one line for each mistake.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, Final

from infra.cluster_parts import get_part, shorten

_TOKEN: Final = "~/.ray/auth_token"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_PORT: Final = "6379"
"""Default port of a head."""
_PIN: Final = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)(?:\[[a-z,]+\])?==([0-9][A-Za-z0-9.+-]*)")
_BOOTSTRAP: Final = "~/ray_bootstrap_config.yaml"
"""Path at which Ray puts the config of the head's autoscaler."""
_START_OPTIONS: Final = (
    "address", "autoscaling-config", "block", "cgroup-path", "dashboard-agent-grpc-port",
    "dashboard-agent-listen-port", "dashboard-host", "dashboard-port", "disable-usage-stats",
    "enable-object-reconstruction", "enable-resource-isolation", "head", "help", "include-dashboard",
    "include-log-monitor", "labels", "labels-file", "log-color", "log-style", "max-worker-port", "memory",
    "metrics-export-port", "min-worker-port", "no-monitor", "no-redirect-output", "node-ip-address",
    "node-manager-port", "node-name", "num-cpus", "num-gpus", "object-manager-port", "object-spilling-directory",
    "object-store-memory", "plasma-directory", "port", "proxy-server-url", "ray-client-server-port",
    "ray-debugger-external", "redis-password", "redis-shard-ports", "redis-username", "resources",
    "runtime-env-agent-port", "system-config", "system-reserved-cpu", "system-reserved-memory", "temp-dir",
    "tracing-startup-hook", "verbose", "worker-port-list",
)  # fmt: skip
"""All options of `ray start`."""
_MIN_OPEN_FILES: Final = 4096
_CLOSED: Final = re.compile(r"0?[64]00|(u=rw?,)?go=|go-rwx|og-rwx")
"""File modes by which only the owner reads a file."""
_ENDS: Final = (";", "&&", "||", "|", "&")
"""Words that end a command in a line of several."""
_PYTHONS: Final = ("3.11", "3.12", "3.13")
_STARTS: Final = ("head_start_ray_commands", "worker_start_ray_commands")
_LISTED_ELSEWHERE: Final = re.compile(r"\s(-r|-e|--requirement|--editable)\b|\.whl\b")
"""Options of a `pip install` that reads package names from a file."""
_SETUPS: Final = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")


def find_start_mistakes(config: dict[str, Any]) -> Iterator[str]:
    """Yield mistakes in the commands that start Ray on the head and on workers."""
    starts = {node: _parse_starts(config, node) for node in ("head", "worker")}
    # Check what holds for both.
    for node, commands in starts.items():
        where = f"{node}_start_ray_commands"
        if not commands:
            yield f"{where} holds no `ray start`: add one"
        elif not any(re.search(r"\bray\s+stop\b", command) for command in _list_commands(config, where)):
            yield f"{where} holds no `ray stop`: a second `ray up` would find Ray running; put it first"
        for start in commands:
            yield from (f"{where}: {what}" for what in _find_start_mistakes(start, config))
    # Check what holds for one of them.
    for start in starts["head"]:
        yield from (f"head_start_ray_commands: {what}" for what in _find_head_mistakes(start))
    ports = {start.options.get("--port") or _PORT for start in starts["head"]}
    for start in starts["worker"]:
        yield from (f"worker_start_ray_commands: {what}" for what in _find_worker_mistakes(start, ports))


@dataclass(frozen=True)
class _Start:
    """A command that contains `ray start`."""

    command: str

    @cached_property
    def words(self) -> list[str]:
        """Words as a shell would split them; only roughly if quotes do not match."""
        words = _split(self.command)
        return self.command.split() if words is None else words

    @cached_property
    def _at(self) -> int:
        """Index of `ray` in `ray start`."""
        pairs = enumerate(pairwise(self.words))
        return next((at for at, (one, two) in pairs if one.rpartition("/")[2] == "ray" and two == "start"), 0)

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that the command sets before Ray starts."""
        pairs = (word.partition("=") for word in self.words[: self._at] if re.match(r"[A-Za-z_]\w*=", word))
        return {name: value for name, _, value in pairs}

    @property
    def options(self) -> dict[str, str]:
        """Options of `ray start`; the value of a flag is empty."""
        words = [*takewhile(lambda word: word not in _ENDS, self.words[self._at :]), ""]
        found = {}
        for word, after in pairwise(words):
            if word.startswith("--"):
                name, equals, value = word.partition("=")
                found[name] = value if equals or after.startswith("-") else after
        return found


def _split(command: str) -> list[str] | None:
    """Words of a shell line without its comment; None if quotes do not match."""
    try:
        return shlex.split(re.sub(r"(;|&&|\|\|)", r" \1 ", command), comments=True)
    except ValueError:
        return None


def _parse_starts(config: dict[str, Any], node: str) -> list[_Start]:
    starts = map(_Start, _list_commands(config, f"{node}_start_ray_commands"))
    return [start for start in starts if re.search(r"\bray start\b", " ".join(start.words))]


def _list_commands(config: dict[str, Any], key: str) -> list[str]:
    commands = config.get(key)
    return [c for c in commands if isinstance(c, str)] if isinstance(commands, list) else []


def _find_start_mistakes(start: _Start, config: dict[str, Any]) -> Iterator[str]:
    """Yield mistakes that a head and a worker can have."""
    variables, host = start.variables, start.options.get("--dashboard-host", _LOOPBACK[0])
    if variables.get("RAY_AUTH_MODE") != "token":
        yield f"RAY_AUTH_MODE is {variables.get('RAY_AUTH_MODE')!r}: set RAY_AUTH_MODE=token before `ray start`"
    if host not in _LOOPBACK:
        yield f"--dashboard-host is {host}: anyone in its network could run jobs; use 127.0.0.1 and `ray dashboard`"
    unknown = (name for name in start.options if name.removeprefix("--") not in _START_OPTIONS)
    yield from (f"`ray start` has no option {name}: {_suggest_option(name)}" for name in unknown)
    limit = re.search(r"ulimit\s+-[SH]*n\s+(\d+|hard|\$)", start.command)
    if limit is None or (limit[1].isdecimal() and int(limit[1]) < _MIN_OPEN_FILES):
        yield "no `ulimit -n`, or a low one: Ray needs more than 1024 open files; put `ulimit -n 65536;` before it"
    yield from _find_secrets_mistakes(variables.get("LACUNA_SECRETS"), config)


def _suggest_option(option: str) -> str:
    near = get_close_matches(option.removeprefix("--"), _START_OPTIONS, 1)
    return f"did you mean --{near[0]}?" if near else "remove it"


def _find_secrets_mistakes(path: str | None, config: dict[str, Any]) -> Iterator[str]:
    """Yield mistakes about the file of logins: it must be set, mounted, and readable by its owner alone."""
    if not path:
        yield "LACUNA_SECRETS is not set: set it to the file of logins, such as $HOME/lacuna/secrets.env"
    elif not _find_mount(_to_tilde(path), config):
        yield f"LACUNA_SECRETS is {path}: file_mounts mounts no file there; mount one"
    elif not _is_closed(_to_tilde(path), config):
        yield f"LACUNA_SECRETS is {path}: setup_commands do not protect it; add chmod 600 {_to_tilde(path)}"


def _find_head_mistakes(start: _Start) -> Iterator[str]:
    if "--head" not in start.options:
        yield "`ray start` without --head starts no cluster: add --head"
    if start.options.get("--include-dashboard", "true").lower() in ("false", "0", "no"):
        yield "--include-dashboard is off: a cluster without it accepts no jobs; remove it"
    if "--address" in start.options:
        yield "--address is set: a head joins no other cluster; remove it"
    bootstrap = start.options.get("--autoscaling-config")
    if bootstrap is None:
        yield f"--autoscaling-config is missing: no worker would start; add ={_BOOTSTRAP}"
    elif bootstrap.rpartition("/")[2] != _BOOTSTRAP.rpartition("/")[2]:
        yield f"--autoscaling-config is {bootstrap}: Ray puts the file at {_BOOTSTRAP}; use that"


def _find_worker_mistakes(start: _Start, ports: set[str]) -> Iterator[str]:
    address = start.options.get("--address", "")
    host, _, port = address.rpartition(":")
    if "--head" in start.options:
        yield "`ray start` with --head makes each worker a cluster of its own: remove it"
    if not address:
        yield f"`ray start` without --address joins no cluster: add --address=$RAY_HEAD_IP:{_PORT}"
    elif host not in ("$RAY_HEAD_IP", "${RAY_HEAD_IP}"):
        yield f"--address is {address}: use $RAY_HEAD_IP and the head's port"
    elif ports and port not in ports:
        yield f"--address ends in port {port}: the head listens on {' and '.join(sorted(ports))}"


def find_setup_mistakes(config: dict[str, Any], folder: Path) -> Iterator[str]:
    """Yield mistakes in the commands that set nodes up; local files are relative to `folder`."""
    # Check the token and other mounted files.
    mounts = get_part(config, "file_mounts")
    token = _to_tilde(
        next((v["RAY_AUTH_TOKEN_PATH"] for v in _find_environments(config) if "RAY_AUTH_TOKEN_PATH" in v), _TOKEN)
    )
    if not _find_mount(token, config):
        yield f"file_mounts has no {token}: nodes need the token; mount ~/.ray/auth_token there"
    elif not _is_closed(token, config):
        yield f"setup_commands do not protect {token}: add chmod 600 {token}"
    yield from _find_mount_mistakes(mounts, token, folder)
    if get_part(config, "provider").get("type") == "aws" and "head_setup_commands" not in config:
        yield "head_setup_commands is missing: Ray would install a boto3 of any version; install it with constraints"
    # Check installed packages.
    installs = [
        (where, command) for where, command in _find_setups(config) if re.search(r"\bpip3?\s+install\b", command)
    ]
    for where, command in installs:
        yield from (f"{where}: {what}" for what in _find_install_mistakes(command, config, folder))
    if not get_part(config, "docker"):
        yield from _find_package_mistakes(config, [command for _, command in installs])
    # Check the words of all commands.
    for where, command in _find_setups(config):
        yield from (f"{where}: {what}" for what in _find_tool_mistakes(command))
    for where, command in [*_find_setups(config), *((key, c) for key in _STARTS for c in _list_commands(config, key))]:
        if _split(command) is None and "<<" not in command:  # a file in a here-document may hold any quotes
            yield f"{where}: quotes do not match in {shorten(command)}; close them"


def _find_mount_mistakes(mounts: dict[str, Any], token: str, folder: Path) -> Iterator[str]:
    """Yield mistakes about mounted files; a file in a home folder may be made later."""
    for there, here in mounts.items():
        if not isinstance(here, str) or not here:
            yield f"file_mounts.{there} is empty: name a file of this machine"
        elif not _is_of_home(here) and not _find_local_file(here, folder).exists():
            yield f"file_mounts brings {here}: there is no such file here"
    here = mounts.get(token, _TOKEN)
    if isinstance(here, str) and _to_tilde(here) != _TOKEN and not Path(here).expanduser().exists():
        yield f"file_mounts brings {here} as the token: there is no such file; Ray makes {_TOKEN}"


def _is_of_home(here: str) -> bool:
    return here.startswith(("~", "/"))


def _find_local_file(here: str, folder: Path) -> Path:
    """File of this machine, relative to the working folder as for Ray, else to the cluster file."""
    path = Path(here).expanduser()
    return path if path.exists() else folder / path


def _find_package_mistakes(config: dict[str, Any], installs: list[str]) -> Iterator[str]:
    """Yield packages that nodes without a container lack."""
    rays = [
        found for command in installs for found in re.findall(r"[\s\"']ray(?:\[([a-z,]*)\])?(?=[=<>~\s\"']|$)", command)
    ]
    if not rays and not any(_LISTED_ELSEWHERE.search(command) for command in installs):
        yield "setup_commands install no ray: add ray[default,train] of our version to `pip install`"
    extras = {extra for found in rays for extra in found.split(",")}
    if rays and not ("all" in extras or {"default", "train"} <= extras):
        yield "setup_commands install ray without its extras default and train, jobs and trainings: add [default,train]"
    is_aws = get_part(config, "provider").get("type") == "aws"
    if is_aws and "head_setup_commands" in config and not any("boto3" in command for command in installs):
        yield "head_setup_commands install no boto3: the head could start no worker; install it with constraints"


def _find_tool_mistakes(command: str) -> Iterator[str]:
    """Yield mistakes in calls of apt and Python."""
    if re.search(r"apt(-get)?\b.*\binstall\b", command):
        if "DPkg::Lock::Timeout" not in command:
            yield "apt fails while the first boot holds its lock: add -o DPkg::Lock::Timeout=300"
        if not re.search(r"\s(-[a-z]*(y|qq)[a-z]*|--yes|--assume-yes)\b", command):
            yield "apt asks before it installs: add -y"
    for version in re.findall(r"\bpython(3\.\d+)\s+-m\s+venv\b", command):
        if version not in _PYTHONS:
            yield f"python{version} makes the environment: use one of {', '.join(_PYTHONS)}"


def _find_environments(config: dict[str, Any]) -> Iterator[dict[str, str]]:
    yield from (start.variables for node in ("head", "worker") for start in _parse_starts(config, node))


def _find_setups(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Commands that set nodes up, each with its key."""
    types = get_part(config, "available_node_types")
    found = [(key, command) for key in _SETUPS for command in _list_commands(config, key)]
    for name in types:
        at = f"available_node_types.{name}"
        found += [(f"{at}.{key}", command) for key in _SETUPS for command in _list_commands(get_part(types, name), key)]
    return found


def _find_install_mistakes(command: str, config: dict[str, Any], folder: Path) -> Iterator[str]:
    """Yield mistakes of a `pip install`."""
    given = re.search(r"(?:--constraint|\s-c)[\s=]+(\S+)", command)
    if not given:
        yield "`pip install` without --constraint installs any versions: add --constraint FILE"
        return
    path, mounts = _to_tilde(given[1].strip("\"'")), get_part(config, "file_mounts")
    mounted = _find_mount(path, config)
    if mounted is None:
        yield f"`pip install` takes constraints from {path}: file_mounts mounts no file there; mount constraints.txt"
        return
    here = str(mounts[mounted])
    local = _find_local_file(here, folder) / path[len(mounted) :].lstrip("/")
    if not local.is_file():
        if local.exists() or _is_of_home(here):  # otherwise the check of mounts reports it
            yield f"file_mounts brings {here}: there is no such file here; name our constraints.txt"
        return
    pins = {name.lower(): version for name, version in _PIN.findall(local.read_text())}
    for name, version in _PIN.findall(command):
        if pins.get(name.lower(), version) != version:
            yield f"{name} is {version}: {local.name} pins {pins[name.lower()]}; use that"


def _find_mount(path: str, config: dict[str, Any]) -> str | None:
    """Key of file_mounts that brings the file: its own, or that of a folder above it; None if there is none."""
    mounts = get_part(config, "file_mounts")
    return next(
        (key for key in mounts if path == _to_tilde(key) or path.startswith(_to_tilde(key).rstrip("/") + "/")), None
    )


def _is_closed(path: str, config: dict[str, Any]) -> bool:
    """Whether a command makes the file readable by its owner alone on each node."""
    words = [_to_tilde(word) for command in _list_commands(config, "setup_commands") for word in _split(command) or ()]
    mode, closed = None, False
    for word in words:
        if word == "chmod":
            mode = ""
        elif word in _ENDS:
            mode = None
        elif mode == "" and not word.startswith("-"):
            mode = word
        elif mode and word == path:
            closed = bool(_CLOSED.fullmatch(mode))
    return closed


def _to_tilde(text: str) -> str:
    """Text with the home folder written as ~."""
    return text.replace("${HOME}/", "~/").replace("$HOME/", "~/")
