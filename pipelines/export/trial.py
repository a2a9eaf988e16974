"""The trial of an exported file before it is published: it must fill as the network does, without Lacuna.

In: the bytes of the file and the network. Out: the largest difference, or JobError. Sizes other than the traced one and
holes up to almost all of a photo are tried: a trace that had kept a size or the depth of a loop would show there.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from nets.exporting import Exported
from pipelines.export.formats import Format
from pipelines.records import JobError

TOLERANCE: Final = 1e-4
"""Of values in [0, 1]; a level of 8 bits is 39 times as much."""
_TOLERANCE_ALL_HOLE: Final = 1e-3
"""Where more than half is hole: onnxruntime rounds otherwise than torch, and SPN divides a hole of one color by its
deviation, which is almost 0. A loop of a kept depth errs by 0.01 and more."""
_SCRIPT: Final = Path(__file__).with_name("run_file.py")

Pair = tuple[Tensor, Tensor]


def compare_fills(data: bytes, network: nn.Module, size_px: int, form: Format) -> float:
    """The largest difference of a pixel between the file's fills and the network's; raises JobError above 1e-4."""
    pairs, reference, worst = make_trial_pairs(size_px), Exported(network), 0.0
    with torch.no_grad():
        for (image, mask), filled in zip(pairs, run_in_process(data, pairs, form), strict=True):
            difference = float((filled - reference(image, mask)).abs().max())
            tolerance = TOLERANCE if mask.mean() < 0.5 else _TOLERANCE_ALL_HOLE
            if not difference <= tolerance:  # also where it is not a number
                number, _, height, width = image.shape
                raise JobError(
                    f"the {form} file differs from the network by {difference:.2g} at {number} photos of "
                    f"{width}x{height} px: more than {tolerance:g}, so nothing was written"
                )
            worst = max(worst, difference)
    return worst


def make_trial_pairs(size_px: int) -> list[Pair]:
    """Photos and masks: one of the network's own size, one of an odd size, and two at once."""
    random = torch.Generator().manual_seed(0)
    sizes = ((1, size_px, size_px), (1, size_px * 5 // 4 + 1, size_px * 3 // 4 + 3), (2, size_px // 2, size_px))
    return [_pair(random, *size) for size in sizes]


def _pair(random: torch.Generator, number: int, height: int, width: int) -> Pair:
    """Photos with a rectangle as hole; of the last, all but a corner is hole where the height is odd."""
    mask = torch.zeros(number, 1, height, width)
    mask[..., height // 4 : height // 2, width // 3 : width * 3 // 4] = 1
    if height % 2:
        mask[-1] = 1
        mask[-1, :, : height // 4, : width // 4] = 0
    return torch.rand(number, 3, height, width, generator=random), mask


def run_in_process(data: bytes, pairs: list[Pair], form: Format) -> list[Tensor]:
    """Fills N3HW of a file in a fresh process that cannot import Lacuna; raises JobError with its last words."""
    with TemporaryDirectory(prefix="lacuna-export-") as scratch:
        file, pictures, fills = (Path(scratch, name) for name in ("file", "pictures.npz", "fills.npz"))
        file.write_bytes(data)
        arrays = {
            f"{name}_{i}": x.numpy() for i, p in enumerate(pairs) for name, x in zip(("image", "mask"), p, strict=True)
        }
        np.savez(pictures, allow_pickle=False, **arrays)
        command = [sys.executable, "-I", str(_SCRIPT), form, str(file), str(pictures), str(fills)]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            words = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise JobError(f"the {form} file does not run without Lacuna, so nothing was written: {words[0]}")
        with np.load(fills, allow_pickle=False) as found:
            return [torch.from_numpy(found[f"filled_{i}"]) for i in range(len(pairs))]
