"""ray_cluster.yaml is what Ray takes, pinned as we are, with token authentication and without secrets."""

import re
import tomllib
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from infra.settings import PROJECT_ROOT

TEXT = (PROJECT_ROOT / "ray_cluster.yaml").read_text()
PINS = dict(
    line.split("==") for line in (PROJECT_ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
)


def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(TEXT)
    return loaded


def test_ray_accepts_it() -> None:
    validate_config(prepare_config(config()))


def test_ray_refuses_a_misspelt_field() -> None:
    with pytest.raises(Exception, match="head_node_typ"):
        validate_config(prepare_config(config() | {"head_node_typ": "head"}))


def test_every_start_command_asks_for_a_token() -> None:
    starts = [c for who in ("head", "worker") for c in config()[f"{who}_start_ray_commands"] if "ray start" in c]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)


def test_its_pins_are_those_of_the_constraints_file() -> None:
    pins = re.findall(r"([a-z]+)(?:\[[a-z,]+\])?==([0-9.]+)", TEXT)
    assert {name for name, _ in pins} == {"ray", "torch", "webdataset"}
    assert all(PINS[name] == version for name, version in pins)


def test_its_nodes_have_all_that_we_depend_on() -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    (install,) = (command for command in config()["setup_commands"] if "pip install" in command)
    installed = {re.split(r"[\[=<>]", word.strip('"'))[0] for word in install.split()}
    assert {re.split(r"[\[=<>]", name)[0] for name in project["dependencies"]} <= installed


def test_it_holds_no_secret() -> None:
    assert not re.search(r"(?i)((secret|password|access_key)\w*\s*[:=]|BEGIN [A-Z ]*PRIVATE)", TEXT)
    assert not re.search(r"\b[0-9a-f]{64}\b", TEXT)
