"""Cluster files that others would write: what is right in them is not called wrong, what is wrong in them is."""

import re
from pathlib import Path

import pytest
from ray.scripts.scripts import start

from infra.cluster_commands import _START_OPTIONS
from infra.cluster_secrets import secret_mistakes
from jobs.submit import parse, run
from pipelines.records import UsageError
from tests.infra.test_cluster_file import TEXT, mistakes_in

CHMOD = "  - chmod 600 ~/.ray/auth_token ~/lacuna/secrets.env"
ZONES = "us-east-1a,us-east-1b,us-east-1c,us-east-1d"
IMAGE = "ami-028357be7d5b15c53"
HEAD = "      InstanceType: m7i.2xlarge"
HEX = "a1" * 32

Changes = tuple[tuple[str, str], ...]


def change_text(changes: Changes) -> str:
    """Our file with each of the changes made wherever it can be."""
    text = TEXT
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def before(key: str, lines: str) -> Changes:
    """The lines put before the first line that begins so."""
    return ((f"\n{key}", f"\n{lines}\n{key}"),)


RIGHT: dict[str, Changes] = {
    "container": before("auth:", "docker: {image: 'rayproject/ray:2.60.0-py312-cu128', container_name: lacuna}"),
    "container by digest": before("auth:", f"docker: {{image: 'rayproject/ray@sha256:{HEX}', container_name: r}}"),
    "containers of a registry": before("auth:", "docker: {head_image: 'r.lab:5000/ray:2.60', container_name: r}"),
    "digest in a comment": before("auth:", f"# checked: sha256 {HEX}"),
    "password in a sentence": before("auth:", "# the password: see the vault"),
    "another region": (
        ("region: us-east-1", "region: eu-central-1"),
        (ZONES, "eu-central-1a"),
        (IMAGE, "ami-0a1b2c3d"),
    ),
    "no zones": ((f"  availability_zone: {ZONES} # tried in this order\n", ""),),
    "local zone": ((ZONES, "us-east-1-bos-1a"),),
    "CPUs only": ((TEXT[TEXT.index("  gpu-spot:") : TEXT.index("head_node_type")], ""),),
    "on demand only": (
        ("      InstanceMarketOptions: &spot {MarketType: spot}\n", ""),
        ("      InstanceMarketOptions: *spot\n", ""),
    ),
    "a type without GPUs": (("  cpu-spot:", "  no-gpu:"),),
    **{
        kind: (("g6e.12xlarge", kind),)
        for kind in ("p5.48xlarge", "p4de.24xlarge", "p6-b200.48xlarge", "g4dn.12xlarge")
    },
    "ARM alone": (("m7i.2xlarge", "m8g.2xlarge"), ("c7i.4xlarge", "c8g.4xlarge"), ("g6e.12xlarge", "g5g.8xlarge")),
    "network": ((HEAD, f"      SecurityGroupIds: [sg-1]\n      SubnetIds: [subnet-1]\n      KeyName: lab\n{HEAD}"),),
    "tags": ((HEAD, f"      TagSpecifications: [{{ResourceType: instance, Tags: [{{Key: a, Value: b}}]}}]\n{HEAD}"),),
    "ssh for all": (
        (
            "  cache_stopped_nodes: false",
            "  security_group: {IpPermissions: [{FromPort: 22, ToPort: 22, IpRanges: [{CidrIp: 0.0.0.0/0}]}]}",
        ),
    ),
    "resources of a user": (("    resources: {}", "    resources: {CPU: 16, nvme: 1, 'accelerator_type:L40S': 1}"),),
    "resources that Ray finds": (("    resources: {}\n", ""),),
    "first boot": before("setup_commands:", "initialization_commands: [sudo cloud-init status --wait]"),
    "not sent": before("setup_commands:", "rsync_exclude: ['**/.git']\nrsync_filter: [.gitignore]"),
    "exported": (("RAY_AUTH_MODE=token RAY_USAGE", "true; export RAY_AUTH_MODE=token; export RAY_USAGE"),),
    "all open files": (("ulimit -n 65536;", "ulimit -n $(ulimit -Hn) &&"),),
    "hard limit": (("ulimit -n 65536;", "ulimit -Sn hard;"),),
    "closed one by one": ((CHMOD, "  - chmod 600 ~/.ray/auth_token; chmod 600 ~/lacuna/secrets.env"),),
    "closed to others": ((CHMOD, "  - chmod go-rwx ~/.ray/auth_token && chmod 400 $HOME/lacuna/secrets.env"),),
    "closed aloud": ((CHMOD, CHMOD.replace("chmod", "chmod -v")),),
    "a file in the shell": (("\nsetup_commands:", "\nsetup_commands:\n  - |\n    cat > ~/x <<E\n    it's\n    E"),),
    "packages of a list": (('"ray[default,train]==2.60.0"', "-r ~/lacuna/requirements.txt"),),
    "quietly": (("install -y -qq", "install -yq"),),
    "home by its name": (("=~/ray_bootstrap", "=/home/ubuntu/ray_bootstrap"),),
    "closed in quotes": ((CHMOD, """  - 'chmod 600 "$HOME/.ray/auth_token" "$HOME/lacuna/secrets.env"'"""),),
    "folder mounted": (
        (
            "  ~/lacuna/secrets.env: ~/.lacuna/secrets.env\n  ~/lacuna/constraints.txt: constraints.txt\n",
            "  ~/lacuna: .\n",
        ),
    ),
    "template": ((HEAD, f"      LaunchTemplate: {{LaunchTemplateName: lab, Version: '3'}}\n{HEAD}"),),
    "profile by ARN": (("{Name: lacuna-head}", "{Arn: 'arn:aws:iam::123456789012:instance-profile/lacuna-head'}"),),
    "more of Ray's options": (
        ("ray start --head", "~/lacuna/venv/bin/ray start --head --num-cpus=0 --dashboard-port 8266"),
    ),
}


@pytest.mark.parametrize("changes", RIGHT.values(), ids=RIGHT)
def test_what_is_right_is_not_called_wrong(changes: Changes, folder: Path) -> None:
    assert mistakes_in(change_text(changes), folder) == []


WRONG: dict[str, tuple[Changes, str]] = {
    "image of another region": (
        (("region: us-east-1", "region: eu-west-1"), (ZONES, "eu-west-1a")),
        rf"head\.node_config\.ImageId is {IMAGE}: it is of us-east-1, not 'eu-west-1'",
    ),
    "image of another processor": (
        (("c7i.4xlarge", "c8g.4xlarge"),),
        r"ImageId is that of m7i\.2xlarge: c8g\.4xlarge has",
    ),
    "old GPU": (
        (("g6e.12xlarge", "p3.8xlarge"),),
        r"InstanceType is 'p3\.8xlarge': it has no NVIDIA GPU for the pinned",
    ),
    "head on spot": (
        ((HEAD, f"      InstanceMarketOptions: {{MarketType: spot}}\n{HEAD}"),),
        r"head\.node_config\.InstanceMarketOptions is set",
    ),
    "profile of a role": ((("{Name: lacuna-head}", "{Arn: 'arn:aws:iam::1:role/x'}"),), r"Arn is .*not of a role"),
    "profile twice": (
        (("{Name: lacuna-head}", "{Name: x, Arn: 'arn:aws:iam::1:instance-profile/x'}"),),
        r"has Name and Arn: EC2 takes one",
    ),
    "disk that boots nothing": (
        (("VolumeType: gp3", "VolumeType: st1"),),
        r"VolumeType is st1: no node starts from it",
    ),
    "ports for all": (
        (
            (
                "  cache_stopped_nodes: false",
                "  security_group: {IpPermissions: [{IpProtocol: '-1', IpRanges: [{CidrIp: 0.0.0.0/0}]}]}",
            ),
        ),
        r"security_group opens ports all to all to anyone",
    ),
    "key pair": ((("  cache_stopped_nodes: false", "  key_pair: {key_nam: x}"),), r"provider\.key_pair is .*key_name"),
    "start option": (
        (("--dashboard-host=", "--dashboard_host="),),
        r"no option --dashboard_host: did you mean --dashboard-host",
    ),
    "token after the start": (
        (
            ("RAY_AUTH_MODE=token RAY_USAGE", "RAY_USAGE"),
            ("bootstrap_config.yaml\n", "bootstrap_config.yaml; RAY_AUTH_MODE=token\n"),
        ),
        r"head_start_ray_commands: RAY_AUTH_MODE is None",
    ),
    "all a comment": (
        (("    ulimit -n 65536; PATH", "    # ulimit -n 65536; PATH"),),
        r"head_start_.* holds no `ray start`",
    ),
    "bootstrap file": (
        (("ray_bootstrap_config", "ray_boostrap_config"),),
        r"--autoscaling-config is ~/ray_boostrap_config",
    ),
    "head that joins": (
        (("--head", "--head --address=$RAY_HEAD_IP:6379"),),
        r"head_.*--address is set: a head joins no",
    ),
    "few open files": ((("ulimit -n 65536", "ulimit -n 1024"),), r"no `ulimit -n`, or a low one"),
    "no stop": ((("  - ~/lacuna/venv/bin/ray stop\n", ""),), r"worker_start_ray_commands holds no `ray stop`"),
    "quotes": ((("ray start --head", "ray start --head 'x"),), r"head_start_ray_commands: quotes do not match"),
    "token of another name": (
        (("token: ~/.ray/auth_token", "token: ~/.ray/auth_tokn"),),
        r"auth_tokn as the token: there is no",
    ),
    "file that is not there": (
        (("\nfile_mounts:", "\nfile_mounts:\n  ~/x: nowhere.txt"),),
        r"brings nowhere\.txt: there is no",
    ),
    "nothing mounted": ((("secrets.env: ~/.lacuna/secrets.env", "secrets.env:"),), r"secrets\.env brings nothing"),
    "no boto3": ((("constraints.txt boto3", "constraints.txt six"),), r"head_setup_commands install no boto3"),
    "apt asks": ((("install -y -qq", "install -q"),), r"apt asks before it installs"),
    "opened again": (((CHMOD, f"{CHMOD}\n  - chmod 644 ~/.ray/auth_token"),), r"leave ~/\.ray/auth_token open"),
    "no dashboard": (
        (("--dashboard-host", "--include-dashboard=false --dashboard-host"),),
        r"--include-dashboard is off",
    ),
    "ray alone": ((("ray[default,train]", "ray"),), r"install ray without its extras"),
    "extra": ((("[default,train]", "[default,trian]"),), r"install ray without its extras"),
    "old Python": ((("python3.12", "python3.9"),), r"python3\.9 makes the environment: take one of 3\.11"),
    "nightly": (
        before("auth:", "docker: {image: 'rayproject/ray:nightly', container_name: r}"),
        r"docker\.image is .*pin",
    ),
    "container of nothing": (before("auth:", "docker: {container_name: r}"), r"docker\.image is missing"),
    "name": ((("cluster_name: lacuna", "cluster_name: my lab/1"),), r"cluster_name is 'my lab/1': give letters"),
    "no name": ((("cluster_name: lacuna", "cluster_name: ''"),), r"cluster_name is ''"),
    "key that is no text": ((("  gpu:\n", "  5:\n"),), r"line \d+: key 5 is no text"),
    "key that is a list": ((("  gpu:\n", "  [a]:\n"),), r"line \d+: found unhashable key"),
    "head that is a list": ((("head_node_type: head", "head_node_type: [head]"),), r"head_node_type is \['head'\]"),
    "no date": ((("cluster_name: lacuna", "cluster_name: 2026-13-45"),), r"a value cannot be read: month must be"),
    "no number": ((("max_workers: 24", "max_workers: 1" + "0" * 5000),), r"a value cannot be read"),
    "NUL": ((("auth:", "\0auth:"),), r"special characters are not allowed"),
    "lists without end": ((("cluster_name: lacuna", "cluster_name: " + "[" * 3000),), r"a value cannot be read"),
}


@pytest.mark.parametrize(("changes", "named"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(changes: Changes, named: str, folder: Path) -> None:
    found = mistakes_in(change_text(changes), folder)
    assert any(re.search(named, line) for line in found), found
    assert all("\n" not in line and len(line) < 400 for line in found)


def test_one_wrong_number_is_one_mistake(folder: Path) -> None:
    assert len(mistakes_in(TEXT.replace("max_workers: 24", "max_workers: many"), folder)) == 1


def test_we_know_the_options_of_ray_start() -> None:
    options = {name for option in start.params for name in (*option.opts, *option.secondary_opts)}
    assert {f"--{name}" for name in _START_OPTIONS} == {name for name in options if name.startswith("--")} | {"--help"}


@pytest.mark.parametrize(
    "line",
    [
        "AWS_SESSION_TOKEN=FwoG4711", "x MLFLOW_TRACKING_TOKEN=s4711 y", "PGPASSWORD=s4711", "WANDB_API_KEY=s4711",
        "MLFLOW_TRACKING_PASSWORD='$4711!'", "# password: s4711", "aws_secret_access_key: s4711",
        "git clone https://s4711@github.com/x", "curl 'https://b/x?X-Amz-Credential=A&X-Amz-Signature=4711'",
        "postgresql://u:s4711@h/d", "# ghp_" + "4711" * 9, f"token: '{HEX}'",
    ],
)  # fmt: skip
def test_a_secret_is_found_in_each_of_its_forms(line: str) -> None:
    (told, *_) = secret_mistakes(f"a: b\n{line}")
    assert told.startswith("line 2 holds ")
    assert "4711" not in told


@pytest.mark.parametrize(
    "line",
    [
        "MLFLOW_TRACKING_PASSWORD=$(cat x)", 'MLFLOW_TRACKING_PASSWORD="$WORD"', "RAY_AUTH_TOKEN_PATH=$HOME/token",
        "~/.ray/auth_token: ~/.ray/auth_token", "HttpTokens: required", "# set MLFLOW_TRACKING_PASSWORD=<yours>",
        "abfs://container@account/x", "https://host/x?page=1", "key_pair: {key_name: lab}",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_not_called_one(line: str) -> None:
    assert list(secret_mistakes(line)) == []


def test_a_file_that_is_far_too_large_is_not_read(folder: Path) -> None:
    (told,) = mistakes_in("a" * (2 << 20), folder)
    assert told.startswith("the file has 2097152 bytes")


def test_a_folder_is_no_cluster_file(folder: Path) -> None:
    with pytest.raises(UsageError, match="is no file"):
        run(parse(["--check-cluster", str(folder)]))
