"""Mistakes in the AWS part of a cluster file: region, node types, images, disks, and open ports.

In: the file as loaded. Out: one line for each mistake. botocore's model of EC2 says which keys, values, regions and
instance types there are. What a node needs to run Lacuna is defined here.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any, Final

import botocore.session

from infra.cluster_parts import get_part, report_unknown, shorten, suggest, to_number

Lines = Iterator[str]

_RESOURCES: Final = {"CPU", "GPU", "memory", "object_store_memory"}
_PYTHON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,), "integer": (int,), "long": (int,), "boolean": (bool,), "structure": (dict,), "list": (list,),
}  # fmt: skip
_GPU_INSTANCE: Final = re.compile(r"(p[4-9]|g[4-9]|gr[6-9])(?!ad\.)[a-z0-9-]*\.")
"""Instances with NVIDIA GPUs of compute capability 7.5 or more, as CUDA 13 needs; g4ad has AMD GPUs."""
_ARM_INSTANCE: Final = re.compile(r"(a1|[a-z]+\d+g[a-z]*)\.")
_REGION_OF: Final = {"ami-028357be7d5b15c53": "us-east-1"}
"""Image of our own file: an id belongs to one region."""
_NO_BOOT: Final = ("st1", "sc1")
"""Disk types from which no node can start."""
_SSH: Final = 22
_CIDR: Final = ("CidrIp", "CidrIpv6")
_ANYONE: Final = ("0.0.0.0/0", "::/0")
_IMAGE: Final = re.compile(r"ami-([0-9a-f]{8}|[0-9a-f]{17})|resolve:ssm:/\S+")
_MIN_DISK_GB: Final = 100
"""The image with driver and CUDA takes about 60 GB, torch with its CUDA libraries 8, spilled objects the rest."""
_GPU_NAME: Final = re.compile(r"(?<![a-z])(?<!no[-_])gpu")


def find_aws_mistakes(config: dict[str, Any], provider: dict[str, Any]) -> Lines:
    """Yield mistakes of a cluster on AWS."""
    # Check provider and head.
    yield from _find_region_mistakes(provider)
    if provider.get("aws_credentials"):
        yield "provider.aws_credentials is set: remove it and use a profile of the AWS CLI"
    yield from _find_open_mistakes(get_part(provider, "security_group"))
    if "key_pair" in provider and "key_name" not in get_part(provider, "key_pair"):
        yield f"provider.key_pair is {shorten(provider['key_pair'])}: give {{key_name: ...}}"
    types, head = get_part(config, "available_node_types"), config.get("head_node_type")
    if not isinstance(head, str) or head not in types:
        yield f"head_node_type is {shorten(head)}: {suggest(str(head), types)}"
    # Check node types, images and containers.
    yield from _find_count_mistakes(config, types)
    for name in types:
        yield from _find_type_mistakes(f"available_node_types.{name}", get_part(types, name), is_head=name == head)
    yield from _find_image_mistakes({name: get_part(get_part(types, name), "node_config") for name in types}, provider)
    yield from _find_docker_mistakes(get_part(config, "docker"))


def _find_open_mistakes(group: dict[str, Any]) -> Lines:
    """Yield ports that are open to the whole internet; SSH may be, as it needs a key."""
    for rule in _list(group, "IpPermissions"):
        addresses = [r for key in ("IpRanges", "Ipv6Ranges") for r in _list(rule, key)]
        is_open = any(str(r.get(key)) in _ANYONE for r in addresses if isinstance(r, dict) for key in _CIDR)
        if is_open and (rule.get("FromPort"), rule.get("ToPort")) != (_SSH, _SSH):
            ports = f"{rule.get('FromPort', 'all')} to {rule.get('ToPort', 'all')}"
            yield f"provider.security_group opens ports {ports} to anyone: name the addresses that need them"


def _find_image_mistakes(launches: dict[str, dict[str, Any]], provider: dict[str, Any]) -> Lines:
    """Yield images of another region or for another processor."""
    seen: dict[str, str] = {}
    for name, launch in launches.items():
        image, instance = str(launch.get("ImageId", "")), str(launch.get("InstanceType", ""))
        at, region = f"available_node_types.{name}.node_config", provider.get("region")
        if region in _list_regions() and _REGION_OF.get(image, region) != region:
            yield f"{at}.ImageId is {image}: it is of {_REGION_OF[image]}, not {shorten(region)}; use another image"
        other = seen.setdefault(image, instance)
        if image and instance and other and bool(_ARM_INSTANCE.match(instance)) != bool(_ARM_INSTANCE.match(other)):
            yield f"{at}.ImageId is that of {other}: {instance} has another processor (ARM or x86); use another image"


def _find_docker_mistakes(docker: dict[str, Any]) -> Lines:
    for key in ("image", "head_image", "worker_image"):
        image = str(docker.get(key, ""))
        tag = image.rpartition("/")[2].partition(":")[2]
        if image and re.fullmatch("|latest.*|nightly.*", tag) and "@sha256:" not in image:
            yield f"docker.{key} is {image!r}: pin a tag with a version, not latest"
    if docker and not any(docker.get(key) for key in ("image", "head_image", "worker_image")):
        yield "docker.image is missing: Ray needs it to start a container"
    if docker and not docker.get("container_name"):
        yield "docker.container_name is missing: Ray needs it to start a container"


def _find_region_mistakes(provider: dict[str, Any]) -> Lines:
    region, zones = provider.get("region"), provider.get("availability_zone", "")
    known = _list_regions()
    if region not in known:
        yield f"provider.region is {shorten(region)}: AWS has no such region; {suggest(str(region), known)}"
        return
    for zone in str(zones).split(",") if zones else ():
        if not re.fullmatch(rf"{re.escape(region)}(-[a-z]{{3}}-\d)?[a-z]", zone.strip()):
            yield f"provider.availability_zone names {zone.strip()!r}: give a zone of {region}, such as {region}a"


def _find_count_mistakes(config: dict[str, Any], types: dict[str, Any]) -> Lines:
    total = config.get("max_workers", 2)  # Ray's own default
    if type(total) is not int:  # the schema check reports it
        return
    if "max_workers" not in config:
        yield "max_workers is missing: Ray would use 2"
    for name in types:
        where, node = f"available_node_types.{name}", get_part(types, name)
        least = to_number(node.get("min_workers"))
        most = to_number(node.get("max_workers", max(least, 0)))
        for key in ("min_workers", "max_workers"):
            if to_number(node.get(key)) < 0:
                yield f"{where}.{key} is {node[key]}: it must be 0 or more"
        if most > total:
            yield f"{where}.max_workers is {most}: the cluster's is {total}; lower the first or raise the second"
        if least > most:
            yield f"{where}.min_workers is {least}: its max_workers is {most}; lower the first or raise the second"
    asked = sum(to_number(get_part(types, name).get("min_workers")) for name in types)
    if asked > total:
        yield f"min_workers of all types add up to {asked}: the cluster's max_workers is {total}"


def _find_type_mistakes(where: str, node: dict[str, Any], *, is_head: bool) -> Lines:
    """Yield mistakes of one node type."""
    # Check keys and values by EC2's model; a template's contents only the account knows.
    launch, resources = get_part(node, "node_config"), get_part(node, "resources")
    yield from (report_unknown(f"{where}.resources.{key}", key, _RESOURCES) for key in resources if _is_misspelt(key))
    yield from _find_shape_mistakes(launch, _run_instances(), f"{where}.node_config")
    if "LaunchTemplate" in launch:
        return
    # Check image and instance type.
    image, instance = launch.get("ImageId"), str(launch.get("InstanceType", ""))
    at = f"{where}.node_config"
    if not image:
        yield f"{at}.ImageId is missing: Ray would use Ubuntu 18.04; name a dated image of the region"
    elif "latest" in str(image):
        yield f"{at}.ImageId is {shorten(image)}: the latest image changes each month; pin the id of a dated one"
    elif not _IMAGE.fullmatch(str(image)):
        yield f"{at}.ImageId is {shorten(image)}: give ami- and 17 hexadecimal digits"
    if not instance:
        yield f"{at}.InstanceType is missing: name one, such as c7i.4xlarge"
    if (resources.get("GPU") or _GPU_NAME.search(where.rpartition(".")[2])) and not _GPU_INSTANCE.match(instance):
        yield f"{at}.InstanceType is {instance!r}: it has no NVIDIA GPU for the pinned torch; use g6e.12xlarge"
    if is_head and "InstanceMarketOptions" in launch:
        yield f"{at}.InstanceMarketOptions is set: when AWS reclaims the head all jobs end; remove it"
    yield from _find_profile_mistakes(get_part(launch, "IamInstanceProfile"), at, is_head=is_head)
    yield from _find_disk_mistakes(launch, at)


def _is_misspelt(resource: str) -> bool:
    """Whether a resource is nearly one of Ray's own; Ray accepts any other name of a user."""
    near = get_close_matches(resource.lower(), [known.lower() for known in _RESOURCES])
    return resource not in _RESOURCES and bool(near)


def _find_profile_mistakes(profile: dict[str, Any], at: str, *, is_head: bool) -> Lines:
    name, arn = profile.get("Name"), str(profile.get("Arn") or "")
    if not (name or arn):
        needs = "start workers" if is_head else "read or write s3://"
        yield f"{at}.IamInstanceProfile is missing: the node needs it to {needs}; give {{Name: ...}}"
    if name and arn:
        yield f"{at}.IamInstanceProfile has Name and Arn: give one of them"
    if arn and ":instance-profile/" not in arn:
        yield f"{at}.IamInstanceProfile.Arn is {shorten(arn)}: give that of an instance profile, not of a role"


def _find_disk_mistakes(launch: dict[str, Any], at: str) -> Lines:
    disks = [get_part(disk, "Ebs") for disk in _list(launch, "BlockDeviceMappings")]
    size = max((to_number(disk.get("VolumeSize")) for disk in disks), default=0)
    if disks and disks[0].get("VolumeType") in _NO_BOOT:
        yield f"{at}.BlockDeviceMappings.0.Ebs.VolumeType is {disks[0]['VolumeType']}: no node starts from it; use gp3"
    if size < _MIN_DISK_GB:
        given = f"{size} GB" if size else "not given"
        needed = f"image, torch and spilled objects need {_MIN_DISK_GB} GB"
        yield f"{at}.BlockDeviceMappings: VolumeSize is {given}; {needed}"


def _list(config: object, key: str) -> list[Any]:
    """List under the key; empty for anything else, which the schema check reports."""
    value = config.get(key) if isinstance(config, dict) else None
    return value if isinstance(value, list) else []


def _find_shape_mistakes(value: object, shape: Any, where: str) -> Lines:
    """Yield what EC2 would refuse, by botocore's model of the call that starts a node."""
    if type(value) not in _PYTHON_TYPES.get(shape.type_name, (type(value),)):
        yield f"{where} is {shorten(value)}: it must be of type {shape.type_name}"
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in shape.members:
                yield from _find_shape_mistakes(item, shape.members[key], f"{where}.{key}")
            elif key != "SubnetIds":  # a key of Ray's own
                yield report_unknown(f"{where}.{key}", str(key), shape.members)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _find_shape_mistakes(item, shape.member, f"{where}.{index}")
    elif getattr(shape, "enum", ()) and value not in shape.enum:
        yield f"{where} is {shorten(value)}: EC2 has no such value; {suggest(str(value), shape.enum)}"


@cache
def _run_instances() -> Any:
    return botocore.session.Session().get_service_model("ec2").operation_model("RunInstances").input_shape


@cache
def _list_regions() -> tuple[str, ...]:
    session = botocore.session.Session()
    partitions = session.get_available_partitions()
    return tuple(region for name in partitions for region in session.get_available_regions("ec2", name))
