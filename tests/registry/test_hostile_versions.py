"""What the code of a registered version sends runs nothing here, and ends in an error that names the version."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.evaluation.model_process import ModelProcess
from pipelines.records import JobError

pytestmark = pytest.mark.thorough

CODE = """
import json, os, pickle, sys

class Evil:
    def __reduce__(self):
        return os.system, ("touch {marker}",)

def send(data, length=None, kind=b"+"):
    frame = sys._getframe()
    while "replies" not in frame.f_locals:
        frame = frame.f_back
    length = len(data) if length is None else length
    os.write(frame.f_locals["replies"].fileno(), kind + length.to_bytes(8, "big") + data)

class Model:
    def predict(self, inputs, params=None):
        {reply}
        import time
        time.sleep(60)

def _load_pyfunc(path, model_config=None):
    {early}
    return Model()
"""
MLMODEL = """
flavors:
  python_function:
    code: code
    loader_module: hostile
    python_version: 3.11.0
metadata:
  weights_sha256: aa
"""
HONEST = "pass"
SHAPE = (1, 8, 9, 3)
IMAGE, MASK = np.zeros(SHAPE, np.uint8), np.ones(SHAPE[:3], np.uint8)


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file that the pickled command would make."""
    yield tmp_path / "marker"
    assert not (tmp_path / "marker").exists(), "the pickle was run"


def make_version(folder: Path, marker: Path, *, early: str = HONEST, reply: str = HONEST) -> Path:
    """Files of a version with foreign code, as MLflow loads them."""
    (folder / "code").mkdir(parents=True)
    (folder / "MLmodel").write_text(MLMODEL)
    (folder / "code" / "hostile.py").write_text(CODE.format(marker=marker, early=early, reply=reply))
    return folder


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ("send(pickle.dumps(Evil()))", r"has sent \d+ bytes, 216 are those of the pictures \(1, 8, 9, 3\)"),
        ("send(pickle.dumps(Evil()).ljust(216, b'.'))", ""),
        ("send(b'', 1 << 62)", "has sent the head 2b4000000000000000: its code is damaged or hostile"),
        ("send(b'garbage', kind=b'gar')", "has sent the head 676172"),
        ("send(bytes(2 * 216))", "has sent the head 2b00000000000001b0"),  # uint16 pictures
    ],
)
def test_a_hostile_fill_runs_nothing(tmp_path: Path, marker: Path, reply: str, error: str) -> None:
    process = ModelProcess("models:/evil/1", make_version(tmp_path / "version", marker, reply=reply))
    assert process.metadata["weights_sha256"] == "aa"
    if error:
        with pytest.raises(JobError, match=error):
            process.fill(IMAGE, MASK)
    else:  # a pickle as long as the pictures is nothing but pictures
        assert process.fill(IMAGE, MASK).shape == SHAPE
    process._process.kill()


@pytest.mark.parametrize(
    ("early", "error"),
    [
        ("send(pickle.dumps(Evil()))", "has sent metadata that is no JSON object"),
        ("send(b'[' * 100_000)", "has sent metadata that is no JSON object"),
        (
            "send(json.dumps({{'weights_sha256': 'aa', 'takes': 7}}).encode())",
            "has sent metadata with takes of another",
        ),
    ],
)
def test_hostile_metadata_runs_nothing(tmp_path: Path, marker: Path, early: str, error: str) -> None:
    with pytest.raises(JobError, match=error):
        ModelProcess("models:/evil/1", make_version(tmp_path / "version", marker, early=early.format()))
