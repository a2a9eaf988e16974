"""Imports between packages: which package may import which, read off the code itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.settings import PACKAGES, PROJECT_ROOT

FILES = sorted(p.relative_to(PROJECT_ROOT) for package in PACKAGES for p in (PROJECT_ROOT / package).rglob("*.py"))

MAY_IMPORT = {
    "jobs": {"jobs", "pipelines", "nets", "infra"},
    "pipelines": {"pipelines", "nets", "infra"},
    "nets": {"nets"},
    "infra": {"infra"},
}
MAY_NOT_IMPORT = {
    "pipelines/masks": {"torch", "nets"},
    "pipelines/data": {"torch", "nets", "pipelines.training", "pipelines.evaluation"},
    "pipelines/stream": {"torch.nn", "nets"},
    "pipelines/evaluation": {"pipelines.training", "pipelines.registry"},
    "pipelines/registry": {"pipelines.training"},
    "nets": {"pathlib", "fsspec", "requests", "socket"},
}
ONLY_IN = {
    "ray": {"infra/cluster.py", "infra/dashboard.py", "pipelines/training/launcher.py"},
    "mlflow": {"infra/tracking.py", "pipelines/registry/model.py"},
    "torch.distributed": {"infra/world.py"},
}


def imports(source: str) -> Iterator[str]:
    """Yield the dotted names of everything that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def find_forbidden(path: Path, source: str) -> list[str]:
    """Imports of a file that its package does not allow."""
    package, found = path.parts[0], []
    for name in imports(source):
        forbidden = {n for folder, names in MAY_NOT_IMPORT.items() if path.as_posix().startswith(folder) for n in names}
        imported = name.split(".")[0]
        if imported in PACKAGES and imported not in MAY_IMPORT[package]:
            found.append(name)
        if any(is_within(name, n) for n in forbidden):
            found.append(name)
        found += [name for n, files in ONLY_IN.items() if is_within(name, n) and path.as_posix() not in files]
    return found


def is_within(name: str, package: str) -> bool:
    """Whether a dotted name is the package or lies in it."""
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_file_has_only_allowed_imports(path: Path) -> None:
    assert find_forbidden(path, (PROJECT_ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("nets/losses.py", "from pipelines.records import Batch"),
        ("infra/storage.py", "import nets"),
        ("pipelines/stream/order.py", "from torch import nn"),
        ("pipelines/data/build/pipeline.py", "import ray"),
        ("pipelines/evaluation/metrics.py", "from pipelines.training.loop import train"),
        ("pipelines/training/run.py", "def f():\n    import mlflow"),
        ("pipelines/training/loop.py", "import torch.distributed as dist"),
    ],
)
def test_a_forbidden_import_is_found(path: str, source: str) -> None:
    assert find_forbidden(Path(path), source)


def test_the_tree_has_the_files_named_in_the_rules() -> None:
    named = {name for files in ONLY_IN.values() for name in files}
    assert named <= {path.as_posix() for path in FILES}
