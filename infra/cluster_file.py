"""Mistakes in a file for `ray up`, as far as they show without an account at a cloud.

In: a YAML file's path. Out: one line for each mistake. Ray's schema says which keys there are.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import jsonschema
import yaml

from infra.cluster_aws import find_aws_mistakes
from infra.cluster_commands import find_setup_mistakes, find_start_mistakes
from infra.cluster_parts import get_part, report_unknown, shorten, to_number
from infra.cluster_secrets import find_secrets

Lines = Iterator[str]

_PROVIDER_KEYS: Final = {
    "aws": {
        "type", "region", "availability_zone", "cache_stopped_nodes", "security_group", "key_pair", "cloudwatch",
        "use_internal_ips", "use_external_head_ip", "disable_node_updaters", "disable_launch_config_check",
        "foreground_node_launch", "worker_liveness_check", "worker_rpc_drain", "aws_credentials",
    },
    "local": {"type", "head_ip", "worker_ips", "coordinator_address", "external_head_ip", "use_internal_ips"},
}  # fmt: skip
_MAX_BYTES: Final = 1 << 20
_CLUSTER_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""Ray uses it in file names, and AWS in group names."""


def find_mistakes(path: Path) -> list[str]:
    """Messages about all mistakes in the cluster file, without secret values; raises OSError for an unreadable one."""
    if (size := path.stat().st_size) > _MAX_BYTES:
        return [f"the file has {size} bytes, more than {_MAX_BYTES}: name a file for `ray up`"]
    # Find secrets in the text, then load the file strictly.
    text = path.read_text(errors="replace")
    mistakes = list(find_secrets(text))
    try:
        loader = _StrictLoader(text)
        config = loader.get_single_data()
    except yaml.YAMLError as fault:
        return [*mistakes, _describe_yaml_error(fault)]
    except (ValueError, RecursionError) as fault:  # an impossible date or number, lists nested without end
        return [*mistakes, f"invalid value: {' '.join(str(fault).split())}; correct it, or write it in quotes"]
    if not isinstance(config, dict):
        return [*mistakes, f"the file holds a {type(config).__name__}: it must be a mapping, as ray_cluster.yaml is"]
    # Check the loaded mapping part by part.
    mistakes += [*loader.mistakes, *_find_schema_mistakes(config)]
    mistakes += _find_provider_mistakes(config)
    mistakes += find_start_mistakes(config)
    mistakes += find_setup_mistakes(config, path.parent)
    return list(dict.fromkeys(mistakes))


class _StrictLoader(yaml.SafeLoader):
    """Records repeated keys of a mapping, of which YAML's own loader silently takes the last."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.mistakes: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Mapping of a node; YAML's loader calls this."""
        seen: set[str] = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if str(key.value) in seen:
                self.mistakes.append(f"line {line}: {key.value} occurs twice in one mapping; remove one")
            seen.add(str(key.value))
        made = super().construct_mapping(node, deep)
        self.mistakes += [
            f"line {node.start_mark.line + 1}: key {shorten(key)} is not text; write it in quotes"
            for key in made
            if not isinstance(key, str)
        ]
        return {str(key): value for key, value in made.items()}


def _describe_yaml_error(fault: yaml.YAMLError) -> str:
    mark = getattr(fault, "problem_mark", None)
    problem = getattr(fault, "problem", None) or getattr(fault, "reason", None) or str(fault)
    line = f"line {mark.line + 1}" if mark else "the file"
    advice = "indent with spaces" if "\\t" in problem else "correct the YAML there"
    return f"{line}: {' '.join(problem.split())}: {advice}"


def _find_schema_mistakes(config: dict[str, Any]) -> Lines:
    """Yield violations of Ray's own schema, which leaves open provider, node configs and resources."""
    is_aws = get_part(config, "provider").get("type") == "aws"  # there Ray finds a node type's resources itself
    if get_part(config, "provider").get("type") == "local":  # Ray removes this key before it validates
        config = {key: value for key, value in config.items() if key != "min_workers"}
    for error in jsonschema.Draft7Validator(_read_ray_schema()).iter_errors(config):
        where = ".".join(map(str, error.absolute_path))
        at = f"{where}." if where else ""
        if error.validator == "additionalProperties":
            known = error.schema["properties"]
            yield from (report_unknown(f"{at}{key}", key, known) for key in error.instance if key not in known)
        elif error.validator == "required":
            missing = (key for key in error.validator_value if key not in error.instance)
            yield from (f"{at}{key} is missing" for key in missing if key != "resources" or not is_aws)
        elif error.validator == "type":
            yield f"{where} is {shorten(error.instance)}: it must be of type {error.validator_value}"
        elif error.validator == "minimum":
            yield f"{where} is {error.instance}: it must be {error.validator_value} or more"
        else:
            yield f"{where}: {error.message}"
    name = config.get("cluster_name")
    if isinstance(name, str) and not _CLUSTER_NAME.fullmatch(name):
        yield f"cluster_name is {shorten(name)}: use letters, digits, - and _"


@cache
def _read_ray_schema() -> dict[str, Any]:
    """Schema of the installed Ray, read without importing it: an import would start its authentication."""
    spec = find_spec("ray")
    (root,) = (spec and spec.submodule_search_locations) or ["ray"]
    schema: dict[str, Any] = json.loads((Path(root) / "autoscaler" / "ray-schema.json").read_text())
    return schema


def _find_provider_mistakes(config: dict[str, Any]) -> Lines:
    provider = get_part(config, "provider")
    kind = str(provider.get("type"))
    keys = _PROVIDER_KEYS.get(kind, set().union(*_PROVIDER_KEYS.values()))
    yield from (report_unknown(f"provider.{key}", key, keys) for key in provider if key not in keys)
    if kind not in _PROVIDER_KEYS:
        yield f"provider.type is {kind!r}: this check supports {' and '.join(_PROVIDER_KEYS)}"
        return
    if not get_part(config, "auth").get("ssh_user"):
        yield "auth.ssh_user is missing: name the user of the image, such as ubuntu"
    yield from _find_local_mistakes(config, provider) if kind == "local" else find_aws_mistakes(config, provider)


def _find_local_mistakes(config: dict[str, Any], provider: dict[str, Any]) -> Lines:
    """Yield mistakes of a cluster of existing machines."""
    for key in ("available_node_types", "head_node_type"):
        if key in config:
            yield f"{key} is for clouds: remove it where provider.type is local"
    if "coordinator_address" in provider:
        if "max_workers" not in config:
            yield "max_workers is missing: provider.coordinator_address needs it"
        return
    ips = provider.get("worker_ips")
    if not isinstance(ips, list) or not ips:
        yield f"provider.worker_ips is {ips!r}: list the addresses of the workers"
        ips = []
    addresses = [provider.get("head_ip"), *ips]
    for name, address in zip(("head_ip", *("worker_ips" for _ in ips)), addresses, strict=True):
        if not _is_host(address):
            yield f"provider.{name} holds {address!r}: give an IP address or a host name"
    yield from (f"provider names {a} twice: a machine is one node" for a in addresses if addresses.count(a) > 1)
    for key in ("min_workers", "max_workers"):
        if ips and to_number(config.get(key)) > len(ips):
            yield f"{key} is {config[key]}: provider.worker_ips names {len(ips)}"


def _is_host(address: object) -> bool:
    """Whether the address is an IP address, or a host name that is no broken IP address."""
    try:
        return isinstance(address, str) and bool(ip_address(address))
    except ValueError:
        return bool(re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", str(address)))
