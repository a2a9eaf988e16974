"""The lines of docs/comparison.md read what the systems' scripts write: names, folders and holes."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines.evaluation.result_pairs import ResultPair
from pipelines.evaluation.results import open_results, read_result_chunk
from tests.evaluation.foreign_results import Pixels, draw_mask, draw_photo, fill_blurred, save, to_black, to_white
from tests.pages import ROOT

LINE = re.compile(r"`lacuna evaluate ([^`]*)`")
Write = Callable[[int, Pixels, Pixels, Pixels], dict[str, Pixels]]
"""From the number, photo, mask and result of a pair to files by their paths."""


def paint(color: int) -> Callable[[Pixels, Pixels], Pixels]:
    """Function from photo and mask to the masked input with a gray hole of this level."""
    return lambda photo, mask: np.where(mask[:, :, None] > 0, np.uint8(color), photo)


def write_plain(name: str, mask: Callable[[Pixels, Pixels], Pixels] = to_white) -> Write:
    """Function for scripts that write one file a photo: its path, with `{}` for the photo's name."""
    return lambda n, p, m, r: {
        f"photos/p{n}.png": p,
        f"masks/p{n}.png": mask(p, m),
        name.format(f"p{n}"): r,
    }


def write_numbered(first: int, result: str) -> Write:
    """Function for scripts that number their results."""
    return lambda n, p, m, r: {
        f"numbered/{n + first:05d}.png": p,
        f"masks/{n + first:05d}.png": to_white(p, m),
        result.format(n + first): r,
    }


LAYOUTS: dict[str, Write] = {
    "PIC": lambda n, p, m, r: {
        f"r/p{n}_truth.png": p, f"r/p{n}_mask.png": paint(127)(p, m), f"r/p{n}_out_0.png": r, f"r/p{n}_out_1.png": p,
    },
    "ParConv": write_plain("r/{}.png", to_black),
    "DeepFillv2": write_plain("r/{}_output.png"),
    "DeepFillv1": write_plain("r/{}_output.png"),
    "SF": write_plain("r/{}.png"),
    "EC": write_plain("r/{}.png"),
    "MFE": write_plain("r/{}.png"),
    "RFR": lambda n, p, m, r: {
        f"numbered/{n + 1}.png": p,
        f"r/results/img_{n + 1}.png": r,
        f"r/results/masked_img_{n + 1}.png": paint(255)(p, m),
    },
    "RN": lambda n, p, m, r: {
        f"r/1_{n}_output.png": r, f"r/1_{n}_gt.png": p, f"r/1_{n}_mask.png": to_white(p, m), f"r/1_{n}_input.png": p,
    },
    "WaveFill": lambda n, p, m, r: {
        f"r/comp_image/p{n}.png": r, f"r/ground_truth/p{n}.png": p, f"r/masked_image/p{n}.png": paint(255)(p, m),
        f"r/synthesized_image/p{n}.png": p,
    },
    "CTSDG": write_numbered(0, "r/{:05d}.png"),
    "DSI": write_numbered(0, "r/{:05d}.png"),
    "SPL": write_plain("r/pred_{}.png"),
    "SPN": lambda n, p, m, r: {
        f"photos/p{n}.png": p, f"r/p{n}_masked.png": paint(255)(p, m), f"r/p{n}_out_0.png": r, f"r/p{n}_out_4.png": p,
    },
    "DeepGIN": lambda n, p, m, r: {
        f"photos/p{n}.png": p,
        f"results/test/p{n}.png": r,
        f"datasets/ade20k/test/p{n}_mask.png": to_white(p, m),
        f"datasets/ade20k/test/p{n}_with_holes.png": p,
    },
    "PatchMatch": write_plain("r/{}.png", to_black),
}  # fmt: skip


def read_lines() -> dict[str, dict[str, str]]:
    """Options of each line of the page by the name of its system."""
    found = {}
    for text in LINE.findall((ROOT / "docs/comparison.md").read_text()):
        words = shlex.split(text)
        options = dict(zip(words[::2], words[1::2], strict=True))
        found[options["--system"]] = options
    return found


def test_every_system_with_code_has_a_line_and_a_layout() -> None:
    assert read_lines().keys() == LAYOUTS.keys()


@pytest.mark.parametrize("system", LAYOUTS)
def test_a_line_of_the_page_reads_what_the_script_writes(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = [(draw_photo(n), draw_mask(n)) for n in range(3)]
    for number, (photo, mask) in enumerate(drawn):
        result = fill_blurred(photo, mask)
        for path, pixels in LAYOUTS[system](number, photo, mask, result).items():
            save(tmp_path / path, pixels)
    monkeypatch.chdir(tmp_path)
    options = read_lines()[system]
    results = open_results(options["--results"], options["--photos"], options["--masks"], options["--hole"])
    pairs: list[ResultPair] = list(read_result_chunk(results, 0))
    assert len(pairs) == 3
    for (photo, mask), pair in zip(drawn, pairs, strict=True):
        np.testing.assert_array_equal(pair.image, photo)
        np.testing.assert_array_equal(pair.mask, mask)
        np.testing.assert_array_equal(pair.given, fill_blurred(photo, mask))
