"""Hostile files: each is rejected with a reason that says why, or taken with the right pixels, and none costs much."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pipelines.data.image.normalize import normalize_photo
from pipelines.records import Rejected
from tests.data.hostile_files import foreign, noise, others, sizes
from tests.data.hostile_parts import exifs, jpegs, pngs
from tests.data.picture_files import OTHER, RECIPE, WHOLE, Pixels, encode, raw_png

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about what is looked at here

HOSTILE = sizes() | foreign() | noise() | jpegs() | exifs() | pngs() | others()


def decode(raw: bytes) -> Pixels:
    """The file as Pillow shows it, uint8 HxWx3."""
    with Image.open(io.BytesIO(raw)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_rejected_with_the_reason_or_have_the_right_pixels(name: str) -> None:
    raw, expected = HOSTILE[name]
    verdict = normalize_photo(raw, RECIPE)
    if isinstance(expected, str):
        assert isinstance(verdict, Rejected), f"taken: {verdict.normalised}"
        assert expected in verdict.reason
        return
    assert not isinstance(verdict, Rejected), verdict
    shown, right = decode(verdict.picture).astype(int), decode(expected).astype(int)
    assert shown.shape == right.shape == (verdict.height_px, verdict.width_px, 3)
    assert np.abs(shown - right).max() <= 3


WITHIN = """
import resource
from dataclasses import replace
from pipelines.data.image.normalize import normalize_photo
from tests.data import test_hostile
from tests.data.picture_files import RECIPE
files = [raw for raw, _ in test_hostile.HOSTILE.values()] + test_hostile.bombs()
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (256 << 20),) * 2)
recipes = [RECIPE, replace(RECIPE, decode_check=False), replace(RECIPE, resize="squash", size_px=64)]
verdicts = [normalize_photo(raw, recipe) for recipe in recipes for raw in files]
print(sum("MemoryError" in getattr(verdict, "reason", "") for verdict in verdicts))
"""


def bombs() -> list[bytes]:
    """Small files whose pixels are many for true, though fewer than the limit."""
    black = Image.new("L", (5_000, 5_000))
    return [encode(black, name) for name in ("PNG", "JPEG", "GIF")]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_all_hostile_files_get_their_verdicts_within_256_mib() -> None:
    done = subprocess.run([sys.executable, "-c", WITHIN], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0\n", "verdicts for want of memory"


def test_a_lying_size_is_named() -> None:
    verdict = normalize_photo(raw_png(60000, 50000, 8, 2, bytes(99)), RECIPE)
    assert verdict == Rejected("60000x50000 pixels are more than 100000000")


@pytest.mark.parametrize("name", sorted(WHOLE | OTHER))
def test_no_beginning_of_a_file_is_taken_for_all_of_it(name: str) -> None:
    raw = (WHOLE | OTHER)[name]
    assert all(isinstance(normalize_photo(raw[:length], RECIPE), Rejected) for length in range(min(len(raw) - 30, 400)))
