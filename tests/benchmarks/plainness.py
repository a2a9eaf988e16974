"""Structure, language and size of the code at two revisions: `python -m tests.benchmarks.plainness OLD [NEW]`.

In: two commits, HEAD as the second by default. Out: a table with a column for each, of figures that are counted from
its files: nothing of the code is run.
"""

import argparse
import ast
import io
import re
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Final

from tests.structure import ROOT, find_arrows, find_parts

_PRODUCT: Final = ("pipelines", "nets", "jobs", "infra")
_ODD_STARTS: Final = ("What", "Of", "Those", "The same")
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z`*\[])")


def measure(revision: str) -> dict[str, str]:
    """Figures of a commit, by what they count."""
    with TemporaryDirectory() as scratch:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(scratch, filter="data")
        root = Path(scratch)
        return measure_structure(root) | measure_readme(root) | measure_code(root)


def measure_structure(root: Path) -> dict[str, str]:
    """Parts and arrows of pipelines/data, files of pipelines/training."""
    arrows = find_arrows("pipelines.data", root)
    return {
        "pipelines/data: parts on sight": str(len(arrows)),
        "pipelines/data: arrows": str(sum(map(len, arrows.values()))),
        "pipelines/training: files": str(len(find_parts("pipelines.training", root))),
    }


def measure_readme(root: Path) -> dict[str, str]:
    """Lines of the README, words of its sentences and paragraphs; lists, tables and code are no sentences."""
    text = (root / "README.md").read_text()
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    paragraphs = [p for p in re.split(r"\n\s*\n", prose) if p.strip() and p.lstrip()[0] not in "#|!*-<>"]
    sentences = [s for p in paragraphs for s in _SENTENCE.split(" ".join(p.split()))]
    lengths = sorted(len(s.split()) for s in sentences)
    return {
        "README: lines": str(len(text.splitlines())),
        "README: words of a sentence, 90th percentile": f"{quantiles(lengths, n=10)[-1]:.0f}",
        "README: words of a paragraph, median": f"{median(len(p.split()) for p in paragraphs):.0f}",
    }


def measure_code(root: Path) -> dict[str, str]:
    """Lines of the product, and first words of its docstrings that name nothing."""
    files = [path for folder in _PRODUCT for path in (root / folder).rglob("*.py")]
    starts = Counter(start for path in files for start in _find_odd_starts(path))
    lines = sum(len(path.read_text().splitlines()) for path in files)
    figures = {f"docstrings that begin with {start}": str(starts[start]) for start in _ODD_STARTS}
    return {"product: lines": f"{lines:,}", "product: files": str(len(files)), **figures}


def _find_odd_starts(path: Path) -> Iterator[str]:
    """Yield the odd first words of the docstrings of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            yield from (start for start in _ODD_STARTS if re.match(rf"{start}\b", text))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("old")
    parser.add_argument("new", nargs="?", default="HEAD")
    chosen = parser.parse_args()
    before, after = measure(chosen.old), measure(chosen.new)
    print(f"| | {chosen.old} | {chosen.new} |\n|---|--:|--:|")
    for figure, value in before.items():
        print(f"| {figure} | {value} | {after[figure]} |")
