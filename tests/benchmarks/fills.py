"""Ways to fill photos of any size, compared: error and LPIPS in the hole, and processor time.

`python -m tests.benchmarks.fills --models RUN [RUN ...] [--sizes 256 512 own]` compares on 30 photos of `LACUNA_DATA`,
with LPIPS's weights in `LACUNA_WEIGHTS`; targets: nothing beats the default in both, its PSNR is at least that of the
naive crop, its LPIPS better than Telea's. `--large` instead fills photos of growing size, a process each, with a hole
of 3 %, and prints processor time and peak memory; target: 4000x3000 in under 5 s of a core and 1.2 GB.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from unittest.mock import patch

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from infra.weights import load_weights
from nets import build_network
from nets.filling import Procedure, fill_levels
from nets.layers.smooth import fill_smoothly
from nets.lpips import LPIPS
from nets.procedures.resize import resize
from pipelines.checkpoints import open_checkpoint
from pipelines.data.build.benchmark import make_natural_photo
from pipelines.evaluation.classical import METHODS
from tests.benchmarks.fill_cases import Case, Levels, read_cases

Fill = Callable[[Case], Levels]
_LARGE: Final = ((512, 512), (1500, 2000), (3000, 4000), (8660, 11547))
_MOST_ATTENDED_PX: Final = 512 * 512
"""Pixels of a photo that a network with attention sees at once, at most: memory grows with their square."""


class TooLargeError(ValueError):
    """A photo is too large for a way to fill it; the message is the reason."""


@dataclass(frozen=True)
class Model:
    """A trained network, its size and its procedure."""

    network: nn.Module
    size_px: int
    procedure: Procedure


def open_model(uri: str) -> Model:
    """The generator of a run's newest checkpoint."""
    checkpoint = open_checkpoint(uri)
    network = build_network(checkpoint.state["network"]).eval()
    network.load_state_dict(checkpoint.tensors(checkpoint.generator))
    return Model(network, int(checkpoint.state["size_px"]), Procedure(**checkpoint.state.get("procedure", {})))


def classical_ways() -> dict[str, Fill]:
    """Methods without training, and the smooth fill alone at the photo's size."""
    ways: dict[str, Fill] = {name: partial(fill_by_name, name) for name in METHODS}
    return ways | {"smooth fill": lambda case: _finish(fill_smoothly(*_to_tensors(case))[0], case)}


def fill_by_name(name: str, case: Case) -> Levels:
    """The photo filled by a classical method."""
    return np.asarray(METHODS[name].fill(case.photo[None], case.hole[None])[0], np.uint8)


def fill_classically(method: int, case: Case) -> Levels:
    """The photo filled by a method of OpenCV, with its usual radius."""
    return np.asarray(cv2.inpaint(case.photo, case.hole, 3, method), np.uint8)


def ways_of(model: Model) -> dict[str, Fill]:
    """What a model can be made to fill photos by; the default first."""
    return {
        "default": lambda case: fill_by(model, case, model.procedure),
        "local, own size": lambda case: fill_by(model, case, Procedure()),
        "local, twice that": lambda case: fill_by(model, case, Procedure(scale=2)),
        "local, four times that": lambda case: fill_by(model, case, Procedure(scale=4)),
        "default, no detail": lambda case: fill_without_detail(model, case),
        "polyphase": lambda case: fill_by(model, case, Procedure("polyphase")),
        "whole": lambda case: fill_whole_photo(model, case),
        "naive crop": lambda case: fill_naive_crop(model, case),
    }


def fill_by(model: Model, case: Case, procedure: Procedure) -> Levels:
    """The photo filled by a procedure."""
    photo, hole = (torch.from_numpy(x)[None] for x in case)
    return np.asarray(fill_levels(model.network, photo, hole, model.size_px, procedure)[0].numpy(), np.uint8)


def fill_whole_photo(model: Model, case: Case) -> Levels:
    """The photo at once; raises TooLargeError where a network has attention and the photo is large."""
    if case.hole.size > _MOST_ATTENDED_PX and attends(model.network):
        raise TooLargeError(f"attention over {case.hole.size / 1e6:.1f} megapixels at once")
    return fill_by(model, case, Procedure("whole"))


def attends(network: nn.Module) -> bool:
    """Whether a layer of the network compares all places with all."""
    names = [type(layer).__name__ for layer in network.modules()]
    return any("Attention" in name or "Affinity" in name for name in names)


def fill_without_detail(model: Model, case: Case) -> Levels:
    """The local procedure where no source of detail is found."""
    with patch("nets.procedures.restore.match_blocks", return_value=None):
        return fill_by(model, case, model.procedure)


def fill_naive_crop(model: Model, case: Case) -> Levels:
    """One square of twice the hole's box, resized to the network's size and back."""
    boxes = [np.flatnonzero(case.hole.any(axis=axis)) for axis in (1, 0)]
    side = max(model.size_px, *(2 * int(np.ptp(at) + 1) for at in boxes))
    starts = [
        int(np.clip((at[0] + at[-1] + 1 - side) // 2, 0, max(0, length - side)))
        for at, length in zip(boxes, case.hole.shape, strict=True)
    ]
    place = tuple(slice(start, start + side) for start in starts)
    image, mask = (x[0] for x in _to_tensors(Case(case.photo[place], case.hole[place])))
    size = (model.size_px, model.size_px)
    shown = resize(image + mask, size), resize(mask, size).ne(0).float()
    made = resize(model.network(shown[0][None], shown[1][None])["inpainted"][0], image.shape[1:])
    filled = case.photo.copy()
    filled[place] = _finish(made, Case(case.photo[place], case.hole[place]))
    return filled


def _to_tensors(case: Case) -> tuple[Tensor, Tensor]:
    """Known pixels 13HW in [0, 1], 0 in the hole, and the hole 11HW."""
    mask = torch.from_numpy(case.hole)[None, None].float()
    return torch.from_numpy(case.photo).permute(2, 0, 1)[None].float() / 255 * (1 - mask), mask


def _finish(filled: Tensor, case: Case) -> Levels:
    """The photo with the hole of 3HW in [0, 1]."""
    levels = filled.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    return np.where(case.hole[..., None] > 0, levels, case.photo)


def measure(ways: Mapping[str, Fill], cases: list[Case], lpips: LPIPS) -> None:
    """Print a row per way: means over the photos, or why it is left out."""
    with torch.inference_mode():
        for name, fill in ways.items():
            try:
                psnr, distance, seconds = np.mean([score(fill, case, lpips) for case in cases], axis=0)
            except TooLargeError as error:
                print(f"| {name} | left out: {error} | | |", flush=True)
            else:
                print(f"| {name} | {psnr:.2f} | {distance:.4f} | {seconds:.2f} |", flush=True)


def score(fill: Fill, case: Case, lpips: LPIPS) -> tuple[float, float, float]:
    """PSNR in the hole, LPIPS of the photo, and seconds of a core; raises TooLargeError."""
    start = time.process_time()
    filled = fill(case)
    seconds = time.process_time() - start
    error = (filled[case.hole > 0].astype(float) - case.photo[case.hole > 0]) ** 2
    pair = (torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255 for x in (case.photo, filled))
    return 10 * float(np.log10(255**2 / error.mean())), lpips(*pair).item(), seconds


def compare(models: list[str], sizes: list[str]) -> None:
    """Print a table for each size."""
    data = Path(os.environ["LACUNA_DATA"])
    weights = load_weights(["alexnet_features", "lpips_alex_v0.1"])
    lpips = LPIPS("alex", weights["alexnet_features"], weights["lpips_alex_v0.1"]).eval()
    for size in sizes:
        cases = list(read_cases(data, None if size == "own" else int(size)))
        print(f"\n| {len(cases)} photos, {size} px | hole PSNR | LPIPS | seconds |\n|---|--:|--:|--:|")
        measure(classical_ways(), cases, lpips)
        for uri in models:
            ways = ways_of(open_model(uri))
            measure({f"{Path(uri).name}: {name}": way for name, way in ways.items()}, cases, lpips)


def measure_large(models: list[str]) -> None:
    """Print processor time and peak memory of photos of growing size, a process each."""
    print("| model | photo | seconds of a core | peak memory |\n|---|---|--:|--:|")
    for model in models:
        for height, width in _LARGE:
            words = [sys.executable, "-m", "tests.benchmarks.fills", "--models", model, "--one", f"{height}x{width}"]
            row = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
            print(f"| {Path(model).name} {row}", flush=True)


def measure_one(model: Model, height: int, width: int) -> None:
    """Print the row of one size: a disk of 3 % is the hole."""
    tile = np.asarray(make_natural_photo(512, 512), np.uint8)
    photo = np.tile(tile, (-(-height // 512), -(-width // 512), 1))[:height, :width].copy()
    hole = np.zeros((height, width), np.uint8)
    cv2.circle(hole, (width // 2, height // 3), int(np.sqrt(0.03 * height * width / np.pi)), 1, -1)
    start = time.process_time()
    fill_by(model, Case(photo, hole), model.procedure)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"| {width}x{height} | {time.process_time() - start:.1f} | {peak:.2f} GB |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--sizes", nargs="+", default=["256", "512", "own"])
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--one", default="")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.one:
        measure_one(open_model(chosen.models[0]), *map(int, chosen.one.split("x")))
    elif chosen.large:
        measure_large(chosen.models)
    else:
        compare(chosen.models, chosen.sizes)
