"""Mistakes in a file for `ray up`: all that can be known of it without an account at a cloud.

In: a YAML file's path. Out: one line for each mistake. Ray's schema and botocore's model of EC2 say which keys, regions
and instance types there are; what a node must have to run Lacuna is said here.
"""

import json
import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import botocore.session
import jsonschema
import yaml

from infra.cluster_commands import part, setup_mistakes, start_mistakes

Lines = Iterator[str]

_PROVIDER_KEYS: Final = {
    "aws": {
        "type", "region", "availability_zone", "cache_stopped_nodes", "security_group", "key_pair", "cloudwatch",
        "use_internal_ips", "use_external_head_ip", "disable_node_updaters", "disable_launch_config_check",
        "foreground_node_launch", "worker_liveness_check", "worker_rpc_drain", "aws_credentials",
    },
    "local": {"type", "head_ip", "worker_ips", "coordinator_address", "external_head_ip", "use_internal_ips"},
}  # fmt: skip
_RESOURCES: Final = {"CPU", "GPU", "memory", "object_store_memory"}
_PYTHON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,), "integer": (int,), "long": (int,), "boolean": (bool,), "structure": (dict,), "list": (list,),
}  # fmt: skip
_GPU_INSTANCE: Final = re.compile(r"(p[2-9]|g[3-9]|gr[6-9])(?!ad\.)[a-z0-9-]*\.")
"""Instances with NVIDIA's GPUs; g4ad has AMD's."""
_IMAGE: Final = re.compile(r"ami-([0-9a-f]{8}|[0-9a-f]{17})|resolve:ssm:/\S+")
_MIN_DISK_GB: Final = 100
"""The image with driver and CUDA takes some 60 GB, torch with its CUDA libraries 8, spilled objects the rest."""
_MAX_CHOICES: Final = 12
_SECRETS: Final = {
    "an AWS access key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a private key": r"BEGIN [A-Z ]*PRIVATE KEY",
    "a token of 64 hexadecimal digits": r"\b[0-9a-fA-F]{64}\b",
    "a login in a URI": r"://[^/\s:@]+:[^/\s@]+@",
    "a password, key or token": (
        r"(?i)(password|passwd|secret_?access_?key|secret_key|ray_auth_token)['\"]?\s*[:=]\s*['\"]?[^\s'\"$.<]"
    ),
}


def find_mistakes(path: Path) -> list[str]:
    """One line for each mistake in the cluster file, without the values of secrets; raises OSError where unreadable."""
    text = path.read_text(errors="replace")
    mistakes = list(_secret_mistakes(text))
    loader = _StrictLoader(text)
    try:
        config = loader.get_single_data()
    except yaml.YAMLError as fault:
        return [*mistakes, _no_yaml(fault)]
    if not isinstance(config, dict):
        return [
            *mistakes,
            f"the file holds a {type(config).__name__}: it must be a mapping with cluster_name: and more",
        ]
    mistakes += [*loader.mistakes, *_schema_mistakes(config)]
    mistakes += _provider_mistakes(config)
    mistakes += start_mistakes(config)
    mistakes += setup_mistakes(config, path.parent)
    return list(dict.fromkeys(mistakes))


class _StrictLoader(yaml.SafeLoader):
    """Notes keys that stand twice in one mapping, of which YAML's own loader takes the last without a word."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.mistakes: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, as YAML's own; called by it."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                self.mistakes.append(f"line {line}: {key.value} stands twice in one mapping; remove one")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _no_yaml(fault: yaml.YAMLError) -> str:
    mark, problem = getattr(fault, "problem_mark", None), getattr(fault, "problem", None) or str(fault)
    line = f"line {mark.line + 1}" if mark else "the file"
    help_ = "indent with spaces" if "\\t" in problem else "the file is no YAML from there on"
    return f"{line}: {' '.join(problem.split())}: {help_}"


def _secret_mistakes(text: str) -> Lines:
    for number, line in enumerate(text.splitlines(), 1):
        for what, pattern in _SECRETS.items():
            if re.search(pattern, line):
                yield f"line {number} holds {what}: move it to the file that LACUNA_SECRETS names"


def _schema_mistakes(config: dict[str, Any]) -> Lines:
    """Against Ray's own schema, which is closed but for the provider, node configs and resources."""
    if part(config, "provider").get("type") == "local":  # Ray takes this one away before it looks
        config = {key: value for key, value in config.items() if key != "min_workers"}
    for error in jsonschema.Draft7Validator(_ray_schema()).iter_errors(config):
        where = ".".join(map(str, error.absolute_path))
        at = f"{where}." if where else ""
        if error.validator == "additionalProperties":
            known = error.schema["properties"]
            yield from (_unknown(f"{at}{key}", str(key), known) for key in error.instance if key not in known)
        elif error.validator == "required":
            yield from (f"{at}{key} is missing" for key in error.validator_value if key not in error.instance)
        elif error.validator == "type":
            yield f"{where} is {error.instance!r}: it must be of type {error.validator_value}"
        elif error.validator == "minimum":
            yield f"{where} is {error.instance}: it must be {error.validator_value} or more"
        else:
            yield f"{where}: {error.message}"


@cache
def _ray_schema() -> dict[str, Any]:
    """Of the installed Ray, read without importing it: that would start its authentication."""
    spec = find_spec("ray")
    (root,) = (spec and spec.submodule_search_locations) or ["ray"]
    schema: dict[str, Any] = json.loads((Path(root) / "autoscaler" / "ray-schema.json").read_text())
    return schema


def _provider_mistakes(config: dict[str, Any]) -> Lines:
    provider = part(config, "provider")
    kind = str(provider.get("type"))
    keys = _PROVIDER_KEYS.get(kind, set().union(*_PROVIDER_KEYS.values()))
    yield from (_unknown(f"provider.{key}", str(key), keys) for key in provider if key not in keys)
    if kind not in _PROVIDER_KEYS:
        yield f"provider.type is {kind!r}: this check knows {' and '.join(_PROVIDER_KEYS)}"
        return
    if not part(config, "auth").get("ssh_user"):
        yield "auth.ssh_user is missing: name the user of the image, such as ubuntu"
    yield from _local_mistakes(config, provider) if kind == "local" else _aws_mistakes(config, provider)


def _local_mistakes(config: dict[str, Any], provider: dict[str, Any]) -> Lines:
    """Of a cluster of machines that are there."""
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
            yield f"provider.{name} holds {address!r}: give an IP address or a host's name"
    yield from (f"provider names {a} twice: a machine is one node" for a in addresses if addresses.count(a) > 1)
    for key in ("min_workers", "max_workers"):
        if ips and _number(config.get(key)) > len(ips):
            yield f"{key} is {config[key]}: provider.worker_ips names {len(ips)}"


def _is_host(address: object) -> bool:
    """Whether it is an IP address, or a name that cannot be mistaken for a broken one."""
    try:
        return isinstance(address, str) and bool(ip_address(address))
    except ValueError:
        return bool(re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", str(address)))


def _aws_mistakes(config: dict[str, Any], provider: dict[str, Any]) -> Lines:
    yield from _region_mistakes(provider)
    if provider.get("aws_credentials"):
        yield "provider.aws_credentials is set: leave keys out and use a profile of the AWS CLI"
    types, head = part(config, "available_node_types"), config.get("head_node_type")
    if head not in types:
        yield f"head_node_type is {head!r}: {_choose(str(head), types)}"
    yield from _count_mistakes(config, types)
    for name in types:
        yield from _type_mistakes(f"available_node_types.{name}", part(types, name), is_head=name == head)
    docker = part(config, "docker")
    for key in ("image", "head_image", "worker_image"):
        image = str(docker.get(key, ""))
        if image and (":" not in image.rpartition("/")[2] or image.endswith(":latest")) and "@sha256:" not in image:
            yield f"docker.{key} is {image!r}: pin a tag with a version, not latest"
    if docker and not docker.get("container_name"):
        yield "docker.container_name is missing: Ray takes no image without it"


def _region_mistakes(provider: dict[str, Any]) -> Lines:
    region, zones = provider.get("region"), provider.get("availability_zone", "")
    known = _regions()
    if region not in known:
        yield f"provider.region is {region!r}: AWS has no such region; {_choose(str(region), known)}"
        return
    for zone in str(zones).split(",") if zones else ():
        if not re.fullmatch(rf"{re.escape(region)}(-[a-z]{{3}}-\d)?[a-z]", zone.strip()):
            yield f"provider.availability_zone names {zone.strip()!r}: it is no zone of {region}, such as {region}a"


def _count_mistakes(config: dict[str, Any], types: dict[str, Any]) -> Lines:
    total = _number(config.get("max_workers", 2))  # Ray's own default
    if "max_workers" not in config:
        yield "max_workers is missing: Ray would take 2"
    for name in types:
        where, node = f"available_node_types.{name}", part(types, name)
        least = _number(node.get("min_workers"))
        most = _number(node.get("max_workers", max(least, 0)))
        for key in ("min_workers", "max_workers"):
            if _number(node.get(key)) < 0:
                yield f"{where}.{key} is {node[key]}: it must be 0 or more"
        if most > total:
            yield f"{where}.max_workers is {most}: the cluster's is {total}; lower the one or raise the other"
        if least > most:
            yield f"{where}.min_workers is {least}: its max_workers is {most}; lower the one or raise the other"
    asked = sum(_number(part(types, name).get("min_workers")) for name in types)
    if asked > total:
        yield f"min_workers of all types are {asked}: the cluster's max_workers is {total}"


def _type_mistakes(where: str, node: dict[str, Any], *, is_head: bool) -> Lines:
    """Of one node type."""
    launch, resources = part(node, "node_config"), part(node, "resources")
    yield from (
        _unknown(f"{where}.resources.{key}", str(key), _RESOURCES) for key in resources if key not in _RESOURCES
    )
    yield from _shape_mistakes(launch, _run_instances(), f"{where}.node_config")
    if "LaunchTemplate" in launch:  # what it holds only the account knows
        return
    image, instance = launch.get("ImageId"), str(launch.get("InstanceType", ""))
    at = f"{where}.node_config"
    if not image:
        yield f"{at}.ImageId is missing: Ray would take Ubuntu 18.04; name a dated image of the region"
    elif "latest" in str(image):
        yield f"{at}.ImageId is {image!r}: it is another image each month; pin the id of a dated one"
    elif not _IMAGE.fullmatch(str(image)):
        yield f"{at}.ImageId is {image!r}: give ami- and 17 hexadecimal digits"
    if not instance:
        yield f"{at}.InstanceType is missing: name one, such as c7i.4xlarge"
    if (resources.get("GPU") or "gpu" in where.rpartition(".")[2]) and not _GPU_INSTANCE.match(instance):
        yield f"{at}.InstanceType is {instance!r}: it has no NVIDIA GPU; take one such as g6e.12xlarge"
    profile = part(launch, "IamInstanceProfile")
    if not (profile.get("Name") or profile.get("Arn")):
        needs = "start workers" if is_head else "read or write s3://"
        yield f"{at}.IamInstanceProfile is missing: the node could not {needs}; give {{Name: ...}}"
    yield from _disk_mistakes(launch, at)


def _disk_mistakes(launch: dict[str, Any], at: str) -> Lines:
    disks = launch.get("BlockDeviceMappings")
    sizes = [part(disk, "Ebs").get("VolumeSize") for disk in disks or () if isinstance(disk, dict)]
    size = max((_number(size) for size in sizes), default=0)
    if size < _MIN_DISK_GB:
        held = f"{size} GB" if size else "not given"
        yield f"{at}.BlockDeviceMappings: VolumeSize is {held}; image, torch and spilled objects need {_MIN_DISK_GB} GB"


def _shape_mistakes(value: object, shape: Any, where: str) -> Lines:
    """What EC2 would not understand, by botocore's model of the call that starts a node."""
    if type(value) not in _PYTHON_TYPES.get(shape.type_name, (type(value),)):
        yield f"{where} is {value!r}: it must be of type {shape.type_name}"
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in shape.members:
                yield from _shape_mistakes(item, shape.members[key], f"{where}.{key}")
            elif key != "SubnetIds":  # Ray's own
                yield _unknown(f"{where}.{key}", str(key), shape.members)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _shape_mistakes(item, shape.member, f"{where}.{number}")
    elif getattr(shape, "enum", ()) and value not in shape.enum:
        yield f"{where} is {value!r}: EC2 has no such value; {_choose(str(value), shape.enum)}"


@cache
def _run_instances() -> Any:
    return botocore.session.Session().get_service_model("ec2").operation_model("RunInstances").input_shape


@cache
def _regions() -> tuple[str, ...]:
    session = botocore.session.Session()
    partitions = session.get_available_partitions()
    return tuple(region for name in partitions for region in session.get_available_regions("ec2", name))


def _number(value: object) -> int:
    """The value if it is a whole number; 0 for others, which the schema names."""
    return value if isinstance(value, int) else 0


def _unknown(where: str, key: str, known: Collection[str]) -> str:
    return f"{where} is no known key: {_choose(key, known)}"


def _choose(value: str, choices: Collection[str]) -> str:
    """What to take instead: all choices where they are few, else the nearest."""
    if len(choices) <= _MAX_CHOICES:
        return f"take one of {', '.join(sorted(choices))}" if choices else "remove it"
    near = get_close_matches(value, choices, 1)
    return f"did you mean {near[0]}?" if near else "remove or correct it"
