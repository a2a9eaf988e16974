"""What several tests of this folder stand on."""

from pathlib import Path

import pytest

from infra.settings import PROJECT_ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the constraints that cluster files name."""
    made = tmp_path_factory.mktemp("cluster")
    (made / "constraints.txt").write_text((PROJECT_ROOT / "constraints.txt").read_text())
    return made
