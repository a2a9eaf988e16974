"""The public module: every name is there, nothing slow is imported for it, and no package of ours imports it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lacuna
from infra.settings import PROJECT_ROOT, list_source_files

SLOW = ("torch", "ray", "mlflow", "cv2", "numpy")


@pytest.mark.parametrize("name", lacuna.__all__)
def test_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(lacuna, name)
    assert isinstance(value, dict) or (value.__doc__ or "").strip()


def test_an_unknown_name_is_refused_by_name() -> None:
    with pytest.raises(AttributeError, match="module 'lacuna' has no attribute 'fil'"):
        _ = lacuna.fil


def test_the_names_for_type_checkers_are_the_public_ones() -> None:
    tree = ast.parse((PROJECT_ROOT / "lacuna.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == lacuna._HOMES
    assert sorted(lacuna.__all__) == sorted(typed)


def test_importing_it_imports_no_slow_library() -> None:
    code = f"import sys, lacuna; print([name for name in {SLOW} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT_ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", [path for path in list_source_files() if path.name != "lacuna.py"], ids=str)
def test_no_package_imports_the_public_module(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            assert "lacuna" not in names
