"""Mistakes in the shell commands of a cluster file: how nodes are set up, and how Ray starts on them.

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

from infra.cluster_parts import part, shown

_TOKEN: Final = "~/.ray/auth_token"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_PORT: Final = "6379"
"""Where a head listens, by default."""
_PIN: Final = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)(?:\[[a-z,]+\])?==([0-9][A-Za-z0-9.+-]*)")
_BOOTSTRAP: Final = "~/ray_bootstrap_config.yaml"
"""Where Ray itself puts what the head's autoscaler reads."""
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
"""Of `ray start`, as Ray's own command has them."""
_MIN_OPEN_FILES: Final = 4096
_CLOSED: Final = re.compile(r"0?[64]00|(u=rw?,)?go=|go-rwx|og-rwx")
"""Modes by which only the owner reads a file."""
_ENDS: Final = (";", "&&", "||", "|", "&")
"""Of a command in a line of several."""
_PYTHONS: Final = ("3.11", "3.12", "3.13")
_STARTS: Final = ("head_start_ray_commands", "worker_start_ray_commands")
_LISTED_ELSEWHERE: Final = re.compile(r"\s(-r|-e|--requirement|--editable)\b|\.whl\b")
"""What is installed a file says."""
_SETUPS: Final = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")


def start_mistakes(config: dict[str, Any]) -> Iterator[str]:
    """Yields what is wrong with the commands that start Ray on the head and on workers."""
    starts = {who: _starts(config, who) for who in ("head", "worker")}
    for who, commands in starts.items():
        where = f"{who}_start_ray_commands"
        if not commands:
            yield f"{where} holds no `ray start`: add one"
        elif not any(re.search(r"\bray\s+stop\b", command) for command in _commands(config, where)):
            yield f"{where} holds no `ray stop`: a second `ray up` would find Ray running; put it first"
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
        words = _split(self.command)
        return self.command.split() if words is None else words

    @cached_property
    def _at(self) -> int:
        """Where `ray` of `ray start` stands."""
        pairs = enumerate(pairwise(self.words))
        return next((at for at, (one, two) in pairs if one.rpartition("/")[2] == "ray" and two == "start"), 0)

    @property
    def variables(self) -> dict[str, str]:
        """The environment that the command sets before Ray starts."""
        pairs = (word.partition("=") for word in self.words[: self._at] if re.match(r"[A-Za-z_]\w*=", word))
        return {name: value for name, _, value in pairs}

    @property
    def options(self) -> dict[str, str]:
        """Of `ray start`: those without a value have an empty one."""
        words = [*takewhile(lambda word: word not in _ENDS, self.words[self._at :]), ""]
        found = {}
        for word, after in pairwise(words):
            if word.startswith("--"):
                name, equals, value = word.partition("=")
                found[name] = value if equals or after.startswith("-") else after
        return found


def _split(command: str) -> list[str] | None:
    """The words of a shell's line, without its comment; None where quotes do not match."""
    try:
        return shlex.split(re.sub(r"(;|&&|\|\|)", r" \1 ", command), comments=True)
    except ValueError:
        return None


def _starts(config: dict[str, Any], who: str) -> list[_Start]:
    starts = map(_Start, _commands(config, f"{who}_start_ray_commands"))
    return [start for start in starts if re.search(r"\bray start\b", " ".join(start.words))]


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
    yield from (f"`ray start` has no option {name}: {_near(name)}" for name in start.options if not _is_known(name))
    limit = re.search(r"ulimit\s+-[SH]*n\s+(\d+|hard|\$)", start.command)
    if limit is None or (limit[1].isdecimal() and int(limit[1]) < _MIN_OPEN_FILES):
        yield "no `ulimit -n`, or a low one: Ray needs more than 1024 open files; put `ulimit -n 65536;` before it"
    yield from _secrets_mistakes(variables.get("LACUNA_SECRETS"), config)


def _is_known(option: str) -> bool:
    return option.removeprefix("--") in _START_OPTIONS


def _near(option: str) -> str:
    near = get_close_matches(option.removeprefix("--"), _START_OPTIONS, 1)
    return f"did you mean --{near[0]}?" if near else "remove it"


def _secrets_mistakes(path: str | None, config: dict[str, Any]) -> Iterator[str]:
    """The file of logins: named to Ray's processes, brought to the node, and closed to others."""
    if not path:
        yield "LACUNA_SECRETS is not set: set it to the file of logins, such as $HOME/lacuna/secrets.env"
    elif not _is_mounted(_tilde(path), config):
        yield f"LACUNA_SECRETS is {path}: no file of file_mounts goes there; mount one"
    elif not _is_closed(_tilde(path), config):
        yield f"LACUNA_SECRETS is {path}: no command of setup_commands closes it; add chmod 600 {_tilde(path)}"


def _head_mistakes(start: _Start) -> Iterator[str]:
    if "--head" not in start.options:
        yield "`ray start` without --head: no cluster begins; add --head"
    if start.options.get("--include-dashboard", "true").lower() in ("false", "0", "no"):
        yield "--include-dashboard is off: a cluster without it takes no jobs; remove it"
    if "--address" in start.options:
        yield "--address is set: a head joins no other; remove it"
    bootstrap = start.options.get("--autoscaling-config")
    if bootstrap is None:
        yield f"--autoscaling-config is missing: no worker would ever start; add ={_BOOTSTRAP}"
    elif bootstrap.rpartition("/")[2] != _BOOTSTRAP.rpartition("/")[2]:
        yield f"--autoscaling-config is {bootstrap}: Ray puts the file at {_BOOTSTRAP}; take that"


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
    if not _is_mounted(token, config):
        yield f"file_mounts has no {token}: nodes would have no token; mount ~/.ray/auth_token there"
    elif not _is_closed(token, config):
        yield f"setup_commands leave {token} open to others: add chmod 600 {token}"
    yield from _mount_mistakes(mounts, token, folder)
    if part(config, "provider").get("type") == "aws" and "head_setup_commands" not in config:
        yield "head_setup_commands is missing: Ray would install a boto3 of any version; install it by constraints"
    installs = [(where, command) for where, command in _setups(config) if re.search(r"\bpip3?\s+install\b", command)]
    for where, command in installs:
        yield from (f"{where}: {what}" for what in _install_mistakes(command, config, folder))
    if not part(config, "docker"):
        yield from _package_mistakes(config, [command for _, command in installs])
    for where, command in _setups(config):
        yield from (f"{where}: {what}" for what in _tool_mistakes(command))
    for where, command in [*_setups(config), *((key, c) for key in _STARTS for c in _commands(config, key))]:
        if _split(command) is None and "<<" not in command:  # what a file holds is no word of the shell
            yield f"{where}: quotes do not match in {shown(command)}; close them"


def _mount_mistakes(mounts: dict[str, Any], token: str, folder: Path) -> Iterator[str]:
    """Of what goes to the nodes; a file of a home folder may be made later."""
    for there, here in mounts.items():
        if not isinstance(here, str) or not here:
            yield f"file_mounts.{there} brings nothing: name the file of this machine"
        elif not _is_of_home(here) and not _local_file(here, folder).exists():
            yield f"file_mounts brings {here}: there is no such file here"
    here = mounts.get(token, _TOKEN)
    if isinstance(here, str) and _tilde(here) != _TOKEN and not Path(here).expanduser().exists():
        yield f"file_mounts brings {here} as the token: there is no such file; Ray makes {_TOKEN}"


def _is_of_home(here: str) -> bool:
    return here.startswith(("~", "/"))


def _local_file(here: str, folder: Path) -> Path:
    """A file of this machine as Ray finds it, from the working folder; else the one beside the cluster file."""
    path = Path(here).expanduser()
    return path if path.exists() else folder / path


def _package_mistakes(config: dict[str, Any], installs: list[str]) -> Iterator[str]:
    """Of nodes without a container, which has both."""
    rays = [
        found for command in installs for found in re.findall(r"[\s\"']ray(?:\[([a-z,]*)\])?(?=[=<>~\s\"']|$)", command)
    ]
    if not rays and not any(_LISTED_ELSEWHERE.search(command) for command in installs):
        yield "setup_commands install no ray: add ray[default,train] of our version to `pip install`"
    extras = {extra for found in rays for extra in found.split(",")}
    if rays and not ("all" in extras or {"default", "train"} <= extras):
        yield "setup_commands install ray without its extras default and train, jobs and trainings: add [default,train]"
    on_aws = part(config, "provider").get("type") == "aws"
    if on_aws and "head_setup_commands" in config and not any("boto3" in command for command in installs):
        yield "head_setup_commands install no boto3: the head could start no worker; install it by constraints"


def _tool_mistakes(command: str) -> Iterator[str]:
    """Of apt and Python."""
    if re.search(r"apt(-get)?\b.*\binstall\b", command):
        if "DPkg::Lock::Timeout" not in command:
            yield "apt waits for no lock of a first boot; add -o DPkg::Lock::Timeout=300"
        if not re.search(r"\s(-[a-z]*(y|qq)[a-z]*|--yes|--assume-yes)\b", command):
            yield "apt asks before it installs, and nobody answers; add -y"
    for version in re.findall(r"\bpython(3\.\d+)\s+-m\s+venv\b", command):
        if version not in _PYTHONS:
            yield f"python{version} makes the environment: take one of {', '.join(_PYTHONS)}"


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


def _install_mistakes(command: str, config: dict[str, Any], folder: Path) -> Iterator[str]:
    """Of a `pip install`."""
    given = re.search(r"(?:--constraint|\s-c)[\s=]+(\S+)", command)
    if not given:
        yield "`pip install` without --constraint: nodes would get other versions; add --constraint FILE"
        return
    path, mounts = _tilde(given[1].strip("\"'")), part(config, "file_mounts")
    mounted = _is_mounted(path, config)
    if mounted is None:
        yield f"`pip install` takes constraints from {path}: no file of file_mounts goes there; mount constraints.txt"
        return
    here = str(mounts[mounted])
    local = _local_file(here, folder) / path[len(mounted) :].lstrip("/")
    if not local.is_file():
        if local.exists() or _is_of_home(here):  # else it is said of the mount, once
            yield f"file_mounts brings {here}: there is no such file here; name our constraints.txt"
        return
    pins = {name.lower(): version for name, version in _PIN.findall(local.read_text())}
    for name, version in _PIN.findall(command):
        if pins.get(name.lower(), version) != version:
            yield f"{name} is {version}: {local.name} pins {pins[name.lower()]}; take that"


def _is_mounted(path: str, config: dict[str, Any]) -> str | None:
    """The key of file_mounts that brings the file: its own, or that of a folder it lies in."""
    mounts = part(config, "file_mounts")
    return next((key for key in mounts if path == _tilde(key) or path.startswith(_tilde(key).rstrip("/") + "/")), None)


def _is_closed(path: str, config: dict[str, Any]) -> bool:
    """Whether a command takes the file from others on each node."""
    words = [_tilde(word) for command in _commands(config, "setup_commands") for word in _split(command) or ()]
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


def _tilde(text: str) -> str:
    """The text with the home folder in one way of writing."""
    return text.replace("${HOME}/", "~/").replace("$HOME/", "~/")
