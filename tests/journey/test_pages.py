"""Every command and every Python block of the pages, run in order: the quickstart first, the others where it ended.

A block that cannot be run here says why in a comment before it, and is skipped by that reason. The five commands of the
README are those of the quickstart, which tests/test_pages.py checks: they are not run a second time. Blocks of
extending.md are files and changes of files: they go into a copy of the code, which then runs its commands.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.settings import MODULES, PACKAGES, PROJECT_ROOT
from tests.pages import OLD, PAGES, Block, read_blocks

QUICKSTART = PROJECT_ROOT / "docs" / "quickstart.md"
EXTENDING = PROJECT_ROOT / "docs" / "extending.md"
NOT_RUN = [f"{b.page}:{b.line}: {b.note}" for p in PAGES if p.name not in OLD for b in read_blocks(p) if b.note]
OTHERS = [
    page
    for page in PAGES
    if page not in (QUICKSTART, EXTENDING) and page.name not in OLD and any(block.is_run for block in read_blocks(page))
]
MOST_SECONDS = 1800

pytestmark = pytest.mark.slow


def run_block(block: Block, folder: Path, code: Path = PROJECT_ROOT) -> None:
    """Run a block in the folder, with this code; fail where it ends otherwise than the page says."""
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {**os.environ, "PATH": os.pathsep.join(paths), "PYTHONPATH": str(code)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    done = subprocess.run(
        [*command, block.text],
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
    )
    assert done.returncode == block.exit_code, f"{block.page}:{block.line}\n{block.text}\n{done.stdout}\n{done.stderr}"


def run_page(page: Path, folder: Path) -> None:
    """Run the blocks of a page in order, but for the README's commands, which the quickstart has run."""
    for block in read_blocks(page):
        if block.is_run and (page.name, block.language) != ("README.md", "bash"):
            run_block(block, folder)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the quickstart was followed."""
    folder = tmp_path_factory.mktemp("quickstart")
    run_page(QUICKSTART, folder)
    return folder


@pytest.fixture
def folder(walked: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of that folder, with the files of the repository that pages name."""
    copy = tmp_path / "copy"
    shutil.copytree(walked, copy)
    for name in ("ray_cluster.yaml", "constraints.txt"):
        shutil.copy(PROJECT_ROOT / name, copy)
    yield copy
    shutil.rmtree(copy)


def test_the_quickstart_leads_to_a_filled_photo(walked: Path) -> None:
    import numpy as np
    from PIL import Image

    photo, hole, filled = (np.asarray(Image.open(walked / name)) for name in ("photo.png", "hole.png", "filled.png"))
    assert (filled[hole == 0] == photo[hole == 0]).all()
    assert (filled[hole > 0] != photo[hole > 0]).any()


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.name)
def test_what_a_page_shows_runs(page: Path, folder: Path) -> None:
    run_page(page, folder)


def change_file(block: Block, tree: Path) -> None:
    """Write the file of a block, or make the change that it shows."""
    assert block.title is not None
    path, lines = tree / block.title, block.text.splitlines()
    if block.language != "diff":
        path.parent.mkdir(exist_ok=True)
        assert not path.exists(), f"{block.title} is there already: take another name for the example"
        path.write_text(block.text)
        return
    old = "\n".join(line[1:] for line in lines if not line.startswith("+"))
    new = "\n".join(line[1:] for line in lines if not line.startswith("-"))
    text = path.read_text()
    assert text.count(old) == 1, f"{block.page}:{block.line}: {block.title} does not have these lines once:\n{old}"
    path.write_text(text.replace(old, new))


def test_the_examples_of_extending_run(folder: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for package in PACKAGES:
        shutil.copytree(PROJECT_ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in MODULES:
        shutil.copy(PROJECT_ROOT / name, tree)
    for block in read_blocks(EXTENDING):
        if block.title is not None:
            change_file(block, tree)
    for block in read_blocks(EXTENDING):
        if block.title is None and block.is_run:
            run_block(block, folder, tree)


@pytest.mark.parametrize("reason", NOT_RUN)
def test_a_block_that_is_not_run(reason: str) -> None:
    pytest.skip(reason)
