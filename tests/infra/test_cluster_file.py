"""ray_cluster.yaml is what Ray takes, pinned as we are; and each mistake that somebody could make in it is named."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

from infra.cluster_file import find_mistakes
from infra.settings import PROJECT_ROOT
from jobs.faults import VerbError
from jobs.submit import parse, run
from pipelines.records import UsageError

FILE = PROJECT_ROOT / "ray_cluster.yaml"
TEXT = FILE.read_text()
TOKEN = "0123456789abcdef" * 4

LOCAL = """
cluster_name: lab
max_workers: 2
provider:
  type: local
  head_ip: 10.0.0.1
  worker_ips: [10.0.0.2, gpu-3.lab]
auth:
  ssh_user: ubuntu
"""


def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(TEXT)
    return loaded


def mistakes_in(text: str, folder: Path) -> list[str]:
    path = folder / "cluster.yaml"
    path.write_text(text)
    return find_mistakes(path)


def test_ray_accepts_it() -> None:
    validate_config(prepare_config(config()))


def test_it_has_no_mistake() -> None:
    assert find_mistakes(FILE) == []


def test_its_nodes_have_all_that_we_depend_on() -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    (install,) = (command for command in config()["setup_commands"] if "pip install" in command)
    installed = {re.split(r"[\[=<>]", word.strip('"'))[0] for word in install.split()}
    assert {re.split(r"[\[=<>]", name)[0] for name in project["dependencies"]} <= installed


def test_its_python_is_one_that_we_support() -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert set(re.findall(r"python(3\.\d+)", TEXT)) == {"3.12"}


GPUS = {"g6e.12xlarge": 4}


def count_launched(num_gpus: int, **request: Any) -> dict[str, int]:
    """The nodes of each type that Ray's own scheduler starts for so many tasks of one GPU."""
    types = {
        name: NodeTypeConfig(
            name, 0, node.get("max_workers", 0), priority=node.get("priority", 0),
            resources={"GPU": GPUS.get(node["node_config"]["InstanceType"], 0)},
        )
        for name, node in config()["available_node_types"].items()
    }  # fmt: skip
    asked = ResourceRequestUtil.group_by_count([ResourceRequestUtil.make({"GPU": 1})] * num_gpus)
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(True, types, config()["max_workers"] + 1, resource_requests=asked, **request)
    )
    return {node.instance_type: node.count for node in reply.to_launch}


def test_ray_starts_spot_first_and_then_on_demand() -> None:
    assert count_launched(8) == {"gpu-spot": 2}
    assert count_launched(40) == {"gpu-spot": 8, "gpu": 2}
    assert count_launched(8, recoverable_resource_availabilities={"gpu-spot": 0.0}) == {"gpu": 2}


PLANTED = [
    (
        "a type above the cluster",
        "max_workers: 16",
        "max_workers: 30",
        r"cpu-spot\.max_workers is 30: the cluster's is 24",
    ),
    (
        "min above max",
        "max_workers: 8",
        "min_workers: 9\n    max_workers: 8",
        r"min_workers is 9: its max_workers is 8",
    ),
    ("sum of mins", "    max_workers: 16", "    min_workers: 16\n    max_workers: 16", None),
    ("negative", "max_workers: 24", "max_workers: -1", r"^max_workers is -1: it must be 0 or more"),
    ("negative type", "max_workers: 16", "max_workers: -2", r"cpu-spot\.max_workers is -2: it must be 0 or more"),
    ("no integer", "max_workers: 24", "max_workers: many", r"^max_workers is 'many': it must be of type integer"),
    ("quoted integer", "max_workers: 16", "max_workers: '16'", r"cpu-spot\.max_workers is '16': it must be of type"),
    ("instance type", "c7i.4xlarge", "c7i.4xlrage", r"InstanceType is 'c7i.4xlrage': EC2 has no such .* c7i\.4xlarge"),
    ("gpu without gpu", "InstanceType: g6e.12xlarge", "InstanceType: c7i.12xlarge", r"it has no NVIDIA GPU"),
    ("amd gpu", "InstanceType: g6e.12xlarge", "InstanceType: g4ad.16xlarge", r"it has no NVIDIA GPU"),
    ("top key", "idle_timeout_minutes:", "idle_timeout_minute:", r"idle_timeout_minute is no known key: did you mean"),
    ("provider key", "cache_stopped_nodes:", "cache_stoped_nodes:", r"provider\.cache_stoped_nodes is no known key"),
    ("type key", "    priority: 1", "    priorty: 1", r"cpu-spot\.priorty is no known key: use one of .*priority"),
    ("node key", "ImageId: *image", "ImageID: *image", r"ImageID is no known key: did you mean ImageId\?"),
    ("deep key", "VolumeType: gp3", "VolumTyp: gp3", r"0\.Ebs\.VolumTyp is no known key"),
    ("deep value", "VolumeType: gp3", "VolumeType: gp4", r"VolumeType is 'gp4': EC2 has no such value"),
    ("spot", "MarketType: spot", "MarketType: sport", r"MarketType is 'sport': EC2 has no such value"),
    ("resource", "resources: {CPU: 0}", "resources: {CPUs: 0}", r"head\.resources\.CPUs is no known key"),
    ("open dashboard", "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", r"--dashboard-host is 0\.0\.0\.0"),
    ("open dashboard, apart", "--dashboard-host=127.0.0.1", "--dashboard-host 0.0.0.0", r"-host is 0\.0\.0\.0"),
    ("no address", "ray start --address=$RAY_HEAD_IP:6379", "ray start", r"worker_.*without --address"),
    ("fixed address", "--address=$RAY_HEAD_IP:6379", "--address=10.0.0.5:6379", r"--address is 10\.0\.0\.5:6379: use"),
    ("no head", "ray start --head", "ray start", r"head_start_ray_commands: `ray start` without --head"),
    ("worker as head", "ray start --address", "ray start --head --address", r"worker_.*with --head"),
    ("ports differ", "--port=6379", "--port=6380", r"ends in port 6379: the head listens on 6380"),
    ("no start", "ray start --head", "ray strat --head", r"head_start_ray_commands holds no `ray start`"),
    ("no autoscaling", "--autoscaling-config=~/ray_bootstrap_config.yaml", "", r"--autoscaling-config is missing"),
    (
        "region",
        "region: us-east-1",
        "region: us-eats-1",
        r"provider\.region is 'us-eats-1': .* did you mean us-east-1\?",
    ),
    ("zone", "us-east-1a,", "us-west-2a,", r"availability_zone names 'us-west-2a': give a zone of us-east-1"),
    ("no token mode", "RAY_AUTH_MODE=token RAY_USAGE", "RAY_USAGE", r"head_start_ray_commands: RAY_AUTH_MODE is None"),
    ("token mode off", "RAY_AUTH_MODE=token RAY_USAGE", "RAY_AUTH_MODE=disabled RAY_USAGE", r"MODE is 'disabled'"),
    ("no token", "  ~/.ray/auth_token: ~/.ray/auth_token\n", "", r"file_mounts has no ~/\.ray/auth_token"),
    ("open token", "chmod 600 ~/.ray/auth_token ", "chmod 600 ", r"setup_commands do not protect ~/\.ray/auth_token"),
    (
        "no image",
        "      ImageId: *image\n",
        "",
        r"cpu-spot\.node_config\.ImageId is missing: Ray would use Ubuntu 18\.04",
    ),
    ("no ami", "ami-028357be7d5b15c53", "ubuntu-24.04", r"ImageId is 'ubuntu-24\.04': give ami-"),
    (
        "latest ami",
        "ami-028357be7d5b15c53",
        "latest_dlami",
        r"ImageId is 'latest_dlami': the latest image changes each month",
    ),
    (
        "latest image",
        "auth:",
        "docker: {image: rayproject/ray:latest, container_name: r}\nauth:",
        r"docker\.image is .*pin",
    ),
    (
        "image without tag",
        "auth:",
        "docker: {image: rayproject/ray, container_name: r}\nauth:",
        r"docker\.image is .*pin",
    ),
    (
        "no container",
        "auth:",
        "docker: {image: 'rayproject/ray:2.60.0-py311-gpu'}\nauth:",
        r"container_name is missing",
    ),
    ("ray version", "==2.60.0", "==2.59.0", r"setup_commands: ray is 2\.59\.0: constraints\.txt pins 2\.60\.0"),
    ("torch version", "torch==2.13.0", "torch==2.12.0", r"torch is 2\.12\.0: constraints\.txt pins 2\.13\.0"),
    ("no ray", '"ray[default,train]==2.60.0"', "", r"setup_commands install no ray"),
    (
        "no profile",
        "      IamInstanceProfile: *worker\n",
        "",
        r"cpu\.node_config\.IamInstanceProfile is missing: .* s3://",
    ),
    (
        "no head profile",
        "      IamInstanceProfile: {Name: lacuna-head}\n",
        "",
        r"head\.node_config\.IamInstanceProfile is m",
    ),
    ("aws key", "# Machines", "# AKIAIOSFODNN7EXAMPLE Machines", r"line 9 holds an AWS access key"),
    ("hex token", "auth:", f"metadata: {{token: '{TOKEN}'}}\nauth:", r"holds a token of 64 hexadecimal digits"),
    ("password", "RAY_USAGE_STATS_ENABLED=0", "MLFLOW_TRACKING_PASSWORD=hunter2", r"holds a password, key or token"),
    ("login", "RAY_USAGE_STATS_ENABLED=0", "MLFLOW_TRACKING_URI=http://ann:hunter2@m:5000", r"holds a login in a URI"),
    ("aws credentials", "  region:", "  aws_credentials: {aws_access_key_id: x}\n  region:", r"aws_credentials is set"),
    ("head type", "head_node_type: head", "head_node_type: haed", r"head_node_type is 'haed': use one of .*head"),
    ("no head type", "head_node_type: head\n", "", r"head_node_type is None"),
    ("small disk", "VolumeSize: 200", "VolumeSize: 20", r"VolumeSize is 20 GB; image, torch and .* need 100 GB"),
    ("no disk", "      BlockDeviceMappings: *disk\n", "", r"VolumeSize is not given"),
    ("no user", "  ssh_user: ubuntu", "  ssh_private_key: ~/.ssh/key.pem", r"auth\.ssh_user is missing"),
    (
        "no constraints",
        "  ~/lacuna/constraints.txt: constraints.txt\n",
        "",
        r"takes constraints from .*file_mounts mounts no file",
    ),
    ("constraints lost", ": constraints.txt", ": requirements.txt", r"brings requirements\.txt: there is no such file"),
    (
        "unconstrained",
        "--constraint ~/lacuna/constraints.txt boto3",
        "boto3",
        r"^head_setup_commands: `pip install` without",
    ),
    (
        "no secrets",
        "  ~/lacuna/secrets.env: ~/.lacuna/secrets.env\n",
        "",
        r"LACUNA_SECRETS is .*file_mounts mounts no file",
    ),
    (
        "open secrets",
        "auth_token ~/lacuna/secrets.env",
        "auth_token",
        r"LACUNA_SECRETS is .*add chmod 600 ~/lacuna/secr",
    ),
    ("readable secrets", "chmod 600", "chmod 644", r"LACUNA_SECRETS is .*add chmod 600"),
    ("secrets not named", "    LACUNA_SECRETS=$HOME/lacuna/secrets.env\n", "", r"head_.*LACUNA_SECRETS is not set"),
    ("no name", "cluster_name: lacuna\n", "", r"^cluster_name is missing"),
    ("unknown provider", "type: aws", "type: awss", r"provider\.type is 'awss': this check supports aws and local"),
    ("key twice", "max_workers: 24", "max_workers: 24\nmax_workers: 2", r"line \d+: max_workers occurs twice"),
    ("deep key twice", "Name: lacuna-worker", "Name: lacuna-worker, Name: x", r"line \d+: Name occurs twice"),
    ("tab", "  type: aws", "\ttype: aws", r"line \d+: .*'\\t'.*: indent with spaces"),
    ("no yaml", "cluster_name: lacuna", "cluster_name: [lacuna", r"line \d+: expected .*: correct the YAML"),
    ("few open files", "ulimit -n 65536; ", "", r"head_start_ray_commands: no `ulimit -n`"),
    (
        "no wait for apt",
        "-o DPkg::Lock::Timeout=300 ",
        "",
        r"setup_commands: apt fails while the first boot holds its lock",
    ),
    (
        "boto3 of any version",
        "head_setup_commands:",
        "worker_setup_commands:",
        r"head_setup_commands is missing: .*boto3",
    ),
]


@pytest.mark.parametrize(("old", "new", "named"), [case[1:] for case in PLANTED], ids=[case[0] for case in PLANTED])
def test_a_planted_mistake_is_named(old: str, new: str, named: str | None, folder: Path) -> None:
    assert old in TEXT
    found = mistakes_in(TEXT.replace(old, new, 1) if named else TEXT.replace(old, new), folder)
    assert any(re.search(named or r"min_workers of all types add up to 32: the cluster's", line) for line in found), (
        found
    )
    assert all("\n" not in line for line in found)
    assert not any(secret in line for line in found for secret in (TOKEN, "hunter2", "AKIAIOSFODNN7EXAMPLE"))


def test_all_mistakes_are_listed_at_once(folder: Path) -> None:
    text = TEXT.replace("us-east-1\n", "us-eats-1\n").replace("spot}", "sport}").replace("ssh_user", "ssh_usr")
    found = mistakes_in(text, folder)
    for named in ("us-eats-1", "sport", "ssh_usr", "ssh_user is missing"):
        assert any(named in line for line in found), found


@pytest.mark.parametrize("text", ["", "[]", "lacuna", "provider: 5", "available_node_types: {head: 3}", "a: {b: [}"])
def test_what_is_no_cluster_at_all_is_named_too(text: str, folder: Path) -> None:
    assert mistakes_in(text, folder)


def keys_of(node: yaml.Node, inside: str = "") -> Iterator[tuple[str, yaml.ScalarNode]]:
    """All keys of a document, each once, with the key of the mapping around it; but for names that are free."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if inside != "available_node_types" or key.value == "head":
                yield inside, key
            yield from keys_of(value, key.value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from keys_of(item, inside)


ROOT = yaml.compose(TEXT) or yaml.MappingNode("", [])
KEYS = list({key.start_mark.index: (inside, key) for inside, key in keys_of(ROOT)}.values())


@given(
    which=st.sampled_from(KEYS),
    at=st.integers(0, 30),
    letter=st.sampled_from("aeiknorstzE_"),
    change=st.sampled_from(["replaced", "removed", "added", "swapped"]),
)
def test_a_key_with_one_wrong_letter_is_named(
    which: tuple[str, yaml.ScalarNode], at: int, letter: str, change: str, folder: Path
) -> None:
    inside, key = which
    word, at = key.value, at % len(key.value)
    wrong = {
        "replaced": word[:at] + letter + word[at + 1 :],
        "removed": word[:at] + word[at + 1 :],
        "added": word[:at] + letter + word[at:],
        "swapped": word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
    }[change]
    assume(wrong != word)
    found = mistakes_in(TEXT[: key.start_mark.index] + wrong + TEXT[key.end_mark.index :], folder)
    assert found, wrong
    if inside not in ("file_mounts", "available_node_types"):  # there the file misses what it had
        assert any(wrong in line for line in found), (wrong, found)


def test_a_cluster_of_machines_that_are_there_is_checked_as_one(folder: Path) -> None:
    commands = TEXT[TEXT.index("file_mounts:") :]
    assert mistakes_in(LOCAL + commands, folder) == []
    validate_config(prepare_config(yaml.safe_load(LOCAL + commands)))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("  head_ip: 10.0.0.1\n", "", r"provider\.head_ip holds None"),
        ("10.0.0.1", "10.0.0.300", r"provider\.head_ip holds '10\.0\.0\.300'"),
        ("[10.0.0.2, gpu-3.lab]", "[]", r"provider\.worker_ips is \[\]"),
        ("10.0.0.2", "10.0.0.1", r"provider names 10\.0\.0\.1 twice"),
        ("max_workers: 2", "max_workers: 3", r"max_workers is 3: provider\.worker_ips names 2"),
        ("worker_ips:", "worker_ip:", r"provider\.worker_ip is no known key: use one of .*worker_ips"),
        ("ssh_user: ubuntu", "ssh_private_key: x", r"auth\.ssh_user is missing"),
        ("auth:", "head_node_type: head\nauth:", r"head_node_type is for clouds"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_cluster_of_machines_that_are_there(old: str, new: str, named: str, folder: Path) -> None:
    assert old in LOCAL
    found = mistakes_in(LOCAL.replace(old, new, 1) + TEXT[TEXT.index("file_mounts:") :], folder)
    assert any(re.search(named, line) for line in found), found


def test_the_command_reports_mistakes_and_ends_with_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(parse(["--check-cluster", str(FILE)]))["mistakes"] == []
    wrong = folder / "wrong.yaml"
    wrong.write_text(TEXT.replace("us-east-1\n", "us-eats-1\n"))
    with pytest.raises(VerbError, match="has 1 mistake: ") as caught:
        run(parse(["--check-cluster", str(wrong)]))
    assert caught.value.exit_code == 2
    assert "did you mean us-east-1?" in capsys.readouterr().err
    for words in ([], ["a", "b"], [str(folder / "none.yaml")]):
        with pytest.raises(UsageError, match="--check-cluster"):
            run(parse(["--check-cluster", *words]))
