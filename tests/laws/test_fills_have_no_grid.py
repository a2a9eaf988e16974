"""The law of no grid: a fill of any size has no period of its own, and is no blur either."""

from collections import defaultdict
from functools import cache
from typing import Final, NamedTuple

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from torch import nn

from nets import build_objective
from nets.baselines.objective import ALONE
from nets.distill.network import DistillConfig
from nets.distill.objective import DistillObjectiveConfig
from nets.filling import LOCAL, fill_levels
from nets.objective import Inputs, Phase
from nets.procedures.resize import resize
from pipelines.noise import SampleNoise
from pipelines.training.updates import sum_weighted
from tests.laws.grids import Levels, Period, gradient_energy, periods_of

SIZE_PX: Final = 64
_STEPS: Final = 60
_BATCH: Final = 4
SIZES: Final = ((96, 96), (128, 191), (257, 201), (512, 512), (333, 501))


class Case(NamedTuple):
    """A photo HW3 and its hole HW."""

    photo: Levels
    hole: Levels


@cache
def real_photos() -> tuple[Levels, ...]:
    """Photos that scikit-image brings along."""
    names = ("astronaut", "coffee", "chelsea", "rocket")
    return (*(getattr(skimage.data, name)() for name in names), skimage.data.stereo_motorcycle()[0])


def draw_case(seed: int, height: int, width: int) -> Case:
    """A part of a photo at this size, and some ellipses as its hole."""
    rng = np.random.default_rng(seed)
    photo = real_photos()[seed % len(real_photos())]
    scale = min(1.0, photo.shape[0] / height, photo.shape[1] / width)
    part = int(height * scale), int(width * scale)
    top, left = (int(rng.integers(0, n - m + 1)) for n, m in zip(photo.shape, part, strict=False))
    cut = photo[top : top + part[0], left : left + part[1]]
    hole = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        middle = int(rng.uniform(0.1, 0.9) * width), int(rng.uniform(0.1, 0.9) * height)
        axes = [int(rng.uniform(0.15, 0.3) * min(height, width)) for _ in range(2)]
        cv2.ellipse(hole, middle, axes, rng.uniform(0, 180), 0, 360, 1, -1)
    return Case(np.asarray(cv2.resize(cut, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8), hole)


@pytest.fixture(scope="module", params=[True, False], ids=["residual", "not residual"])
def network(request: pytest.FixtureRequest) -> nn.Module:
    """A small network of convolutions after some seconds of training on parts of the photos."""
    torch.manual_seed(0)
    config = DistillConfig(
        width=16,
        stem_width=8,
        encoder_blocks=(0, 1, 2),
        decoder_blocks=1,
        completion=False,
        attention=False,
        fusion=False,
        residual=request.param,
    )
    objective = build_objective(DistillObjectiveConfig(config, ALONE, style_weight=0.0, confidence_px=17), {})
    stage, generator = objective.stages[0], objective.networks["generator"]
    phase = stage.phases[0]
    assert isinstance(phase, Phase)
    optimizer = torch.optim.Adam(generator.parameters(), 2e-3)
    for step in range(_STEPS):
        loss = sum_weighted(phase.terms(stage.forward(draw_inputs(step))), phase.weights)
        optimizer.zero_grad()
        torch.autograd.backward([loss])
        optimizer.step()
    return generator.eval()


def draw_inputs(step: int) -> Inputs:
    """Some cases at the network's size."""
    cases = [draw_case(1000 + _BATCH * step + i, SIZE_PX, SIZE_PX) for i in range(_BATCH)]
    image = torch.from_numpy(np.stack([case.photo for case in cases])).permute(0, 3, 1, 2).float() / 255
    mask = torch.from_numpy(np.stack([case.hole for case in cases]))[:, None].float()
    return Inputs(image, mask, SampleNoise(0, [(step, i) for i in range(_BATCH)]))


def fill(network: nn.Module, case: Case) -> Levels:
    """The photo filled."""
    photo, hole = (torch.from_numpy(x)[None] for x in case)
    return np.asarray(fill_levels(network, photo, hole, SIZE_PX, LOCAL)[0].numpy(), np.uint8)


def fill_naive_crop(network: nn.Module, case: Case) -> Levels:
    """The photo with its hole filled from one square of twice its box, resized there and back."""
    boxes = [np.flatnonzero(case.hole.any(axis=axis)) for axis in (1, 0)]
    side = max(SIZE_PX, *(2 * int(np.ptp(at) + 1) for at in boxes))
    starts = [
        int(np.clip((at[0] + at[-1] + 1 - side) // 2, 0, max(0, n - side)))
        for at, n in zip(boxes, case.hole.shape, strict=True)
    ]
    place = tuple(slice(start, start + side) for start in starts)
    image = torch.from_numpy(case.photo[place]).permute(2, 0, 1).float() / 255
    mask = torch.from_numpy(case.hole[place])[None].float()
    with torch.inference_mode():
        small = resize(image * (1 - mask) + mask, (SIZE_PX, SIZE_PX)), resize(mask, (SIZE_PX, SIZE_PX)).ne(0).float()
        made = resize(network(small[0][None], small[1][None])["inpainted"][0], image.shape[1:])
    levels = made.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    filled = case.photo.copy()
    filled[place] = np.where(case.hole[place][..., None] > 0, levels, case.photo[place])
    return filled


def refuse_grid(network: nn.Module, cases: list[Case], most_exceeding: int = 0) -> None:
    """Assert the law of fills of these photos, but for so many of them; steps are averaged over all."""
    faults, exceeding, periods = [], [], defaultdict[int, list[Period]](list)
    for case in cases:
        filled, apart = fill(network, case), ""
        for period in periods_of(filled, case.photo, case.hole):
            periods[period.length].append(period)
            if period.spread > period.own_spread + 1:
                apart = f"{period.length} px: {period.spread:.2f} levels apart, the photo's {period.own_spread:.2f}"
        exceeding += [f"{case.hole.shape}: phases of {apart}"] if apart else []
        energy, naive = (gradient_energy(x, case.hole) for x in (filled, fill_naive_crop(network, case)))
        if energy < naive / 2:
            faults.append(f"{case.hole.shape}: steps have an energy of {energy:.1f}, the naive crop's of {naive:.1f}")
    for length, found in periods.items():
        across, beside = (np.concatenate([getattr(p, of) for p in found]).mean() for of in ("across", "beside"))
        if across > 1.3 * beside:
            faults.append(f"steps across multiples of {length} px are {across:.2f}, beside them {beside:.2f}")
    assert periods
    assert not faults, faults
    assert len(exceeding) <= most_exceeding, exceeding


def test_fills_have_no_grid_and_are_no_blur(network: nn.Module) -> None:
    refuse_grid(network, [draw_case(seed, *size) for seed, size in enumerate(SIZES)])


@pytest.mark.slow
def test_fills_of_many_sizes_have_no_grid(network: nn.Module) -> None:
    sizes = {seed: np.random.default_rng(seed).integers(96, 1025, 2).tolist() for seed in range(200, 232)}
    # Copied texture is at times stronger than what was there: of some hundred photos one in fifty exceeds the bound.
    refuse_grid(network, [draw_case(seed, *size) for seed, size in sizes.items()], most_exceeding=1)
