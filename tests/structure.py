"""Structure of the code, read off its imports: `python -m tests.structure` prints the figures.

In: the Python files of a package, such as `pipelines.data`. Out: its parts (folders and single modules), the arrows
between them (part -> part that it imports), and the parts that import each other in a circle.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent

Arrows = dict[str, set[str]]
"""The parts that each part imports."""


def find_parts(package: str, root: Path = ROOT) -> list[str]:
    """Names of the folders and single modules of a package, in order."""
    folder = root / package.replace(".", "/")
    entries = (path for path in folder.iterdir() if path.name not in {"__init__.py", "__pycache__"})
    return sorted(path.stem for path in entries if path.is_dir() or path.suffix == ".py")


def find_arrows(package: str, root: Path = ROOT) -> Arrows:
    """Arrows between the parts of a package."""
    arrows: Arrows = {}
    for part in find_parts(package, root):
        path = root / package.replace(".", "/") / part
        files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
        arrows[part] = {other for file in files for other in _parts_of_imports(package, file)} - {part}
    return arrows


def _parts_of_imports(package: str, file: Path) -> Iterator[str]:
    """Yield the parts of a package that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith(f"{package}."):
                yield name.removeprefix(f"{package}.").partition(".")[0]


def find_circle(arrows: Arrows) -> list[str]:
    """Parts that import each other in a circle, or import such parts; empty if there is no circle."""
    left = dict(arrows)
    while free := [part for part, others in left.items() if not others & left.keys()]:
        for part in free:
            del left[part]
    return sorted(left)


if __name__ == "__main__":
    data = find_arrows("pipelines.data")
    print(f"pipelines/data: {len(data)} parts, {sum(map(len, data.values()))} arrows")
    for name, others in data.items():
        print(f"  {name} -> {', '.join(sorted(others)) or 'none'}")
    print(f"  circle: {', '.join(find_circle(data)) or 'none'}")
    print(f"pipelines/training: {len(find_parts('pipelines.training'))} parts")
