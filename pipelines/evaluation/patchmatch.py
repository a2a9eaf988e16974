"""PatchMatch: holes completed from similar patches, found by random search and propagation.

In: a picture and its hole. Out: for each patch that meets the hole its most similar known patch, and pixels voted from
these. The search is that of Barnes, Shechtman, Finkelstein and Goldman, SIGGRAPH 2009, section 3, with all patches in
step instead of one after another. Completion is as in their section 4 after Wexler, Shechtman and Irani, IEEE TPAMI
29(3), 2007: coarse to fine, search and weighted votes by turns. All draws are keyed, so the same photo has the same
fill at every run.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from nets.layers.smooth import fill_smoothly
from pipelines.evaluation.patches import (
    Hole,
    Levels,
    Places,
    choose_side,
    count_hole_pixels,
    find_known_patches,
    read_patches,
    reduce_picture,
)
from pipelines.keyed_rng import KeyedRng

_TURNS: Final = (20, 12, 8, 6)
"""Turns of search and vote at the coarsest level and the next ones; the last number is that of all others."""
_FALL: Final = 1.3
"""Factor by which a vote weighs less for each pixel that its patch's middle lies deeper in the hole (Wexler et al.)."""
_TARGETS_AT_A_TIME: Final = 1 << 11
_DIRECTIONS: Final = ((0, 1), (1, 0), (0, -1), (-1, 0))


@dataclass(frozen=True)
class Level:
    """Level of the pyramid: a picture, its hole, and the patches of one side in it."""

    picture: Levels
    hole: Hole
    side: int
    is_source: Hole
    """Places of patches without a hole pixel."""
    targets: Places
    """Places of patches with one."""


@dataclass
class Matches:
    """Most similar known patch of every target."""

    places: Places
    distances: NDArray[np.float32]
    """Sums of squared differences, in levels."""


def match_patches(picture: Levels, hole: Hole) -> tuple[Level, Matches]:
    """The finest level of a picture HW3 and its matches; at least one pixel is known and one is not."""
    levels = _build_pyramid(picture, hole)
    matches = None
    for number, level in enumerate(levels):
        if matches is None:
            colors = _fill_smoothly(level)
            places = _draw_places(level, number)
        else:
            places = _double(levels[number - 1], matches.places, level)
            colors = vote(level, Matches(places, np.zeros(len(places), np.float32)), level.picture)
        matches = _alternate(level, colors, places, number)
    assert matches is not None
    return level, matches


def vote(level: Level, matches: Matches, blocks: Levels) -> Levels:
    """Blocks HWC whose hole is the weighted mean of what the matches of all patches over a pixel have there.

    `blocks` is the level's picture, or a larger one with as many pixels for each of the level's.
    """
    height, width, channels = blocks.shape
    weights = _weigh(level, matches)[:, None]
    flat = blocks.reshape(-1, channels)
    sums, shares = np.zeros((height * width, channels), np.float32), np.zeros((height * width, 1), np.float32)
    starts, theirs = (places[:, 0] * width + places[:, 1] for places in (level.targets, matches.places))
    for row in range(level.side):
        for column in range(level.side):
            step = row * width + column  # pixels of the targets differ, so that none is added to twice
            sums[starts + step] += weights * flat[theirs + step]
            shares[starts + step] += weights
    inside = level.hole.reshape(-1)
    voted = flat.copy()
    voted[inside] = np.rint(sums[inside] / shares[inside]).astype(np.uint8)
    return voted.reshape(blocks.shape)


def _build_pyramid(picture: Levels, hole: Hole) -> list[Level]:
    """Levels, coarsest first: halved until a patch covers the hole's depth or known patches are few."""
    side = choose_side(hole)
    levels = [_make_level(picture, hole, side)]
    while _measure_depth(levels[-1].hole).max() > side / 2:
        smaller = reduce_picture(levels[-1].picture, levels[-1].hole, 2)
        if min(smaller[1].shape) < 2 * side or choose_side(smaller[1]) < side or not smaller[1].any():
            break
        levels.append(_make_level(*smaller, side))
    return levels[::-1]


def _make_level(picture: Levels, hole: Hole, side: int) -> Level:
    targets = np.argwhere(count_hole_pixels(hole, side) > 0)
    return Level(np.ascontiguousarray(picture), hole, side, find_known_patches(hole, side), targets)


def _fill_smoothly(level: Level) -> Levels:
    """The level's picture with colors from around the hole spread into it, which the first search begins with."""
    mask = torch.from_numpy(level.hole)[None, None].float()
    known = torch.from_numpy(level.picture).permute(2, 0, 1)[None] * (1 - mask)
    filled = fill_smoothly(known, mask, num_sweeps=4)[0].round().byte().permute(1, 2, 0)
    return np.ascontiguousarray(filled.numpy())


def _measure_depth(hole: Hole) -> NDArray[np.float32]:
    """Distance of each pixel from the known ones, px."""
    return np.asarray(cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 5))


def _weigh(level: Level, matches: Matches) -> NDArray[np.float32]:
    """Weight of each match's votes: high where patches are alike and near what is known."""
    scale = max(float(np.percentile(matches.distances, 75)), 1.0)
    middles = level.targets + level.side // 2
    depth = _measure_depth(level.hole)[middles[:, 0], middles[:, 1]]
    weights = np.exp(-matches.distances / (2 * scale)) * _FALL ** -np.minimum(depth, 100)
    return np.asarray(weights, np.float32).clip(1e-30)


def _draw_places(level: Level, *path: int) -> Places:
    """A random known patch for each target."""
    known = np.argwhere(level.is_source)
    return np.asarray(known[KeyedRng("patchmatch", "start", *path).integers(len(level.targets), len(known))[:, 0]])


def _double(coarse: Level, places: Places, level: Level) -> Places:
    """Matches of a level twice as fine from those of the coarse one, moved to the nearest known patch."""
    table = np.stack(np.meshgrid(*map(np.arange, coarse.is_source.shape), indexing="ij"), axis=2)
    table[coarse.targets[:, 0], coarse.targets[:, 1]] = places
    parents = np.minimum(level.targets // 2, np.array(coarse.is_source.shape) - 1)
    doubled = level.targets + 2 * (table[parents[:, 0], parents[:, 1]] - parents)
    inside = np.clip(doubled, 0, np.array(level.is_source.shape) - 1)
    _, labels = cv2.distanceTransformWithLabels(
        (~level.is_source).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.zeros((int(labels.max()) + 1, 2), np.int64)
    known = np.argwhere(level.is_source)
    nearest[labels[known[:, 0], known[:, 1]]] = known
    return np.asarray(nearest[labels[inside[:, 0], inside[:, 1]]])


def _alternate(level: Level, colors: Levels, places: Places, number: int) -> Matches:
    """Matches after turns of search in the completed picture and votes for a new one."""
    matches = _search(level, colors, places, number, 0)
    for turn in range(1, _TURNS[min(number, len(_TURNS) - 1)]):
        matches = _search(level, vote(level, matches, level.picture), matches.places, number, turn)
    return matches


def _search(level: Level, colors: Levels, places: Places, *path: int) -> Matches:
    """Matches for the completed picture, from earlier ones: those of neighbors, then random ones ever nearer."""
    shown = np.asarray(read_patches(colors, level.targets, level.side), np.float32)
    matches = Matches(places.copy(), _measure(level, shown, places))
    limits = np.array(level.is_source.shape)
    table = np.full((*level.is_source.shape, 2), -1, np.int64)
    for step in (4, 2, 1):
        for direction in _DIRECTIONS:
            table[level.targets[:, 0], level.targets[:, 1]] = matches.places
            shift = np.array(direction) * step
            around = np.clip(level.targets + shift, 0, limits - 1)
            _improve(level, shown, matches, table[around[:, 0], around[:, 1]] - shift)
    rng, radius = KeyedRng("patchmatch", "search", *path), int(limits.max())
    while radius >= 1:
        draws = rng.integers(len(places), 2 * radius + 1, 2 * radius + 1) - radius
        _improve(level, shown, matches, matches.places + draws)
        radius //= 2
    return matches


def _improve(level: Level, shown: NDArray[np.float32], matches: Matches, tried: Places) -> None:
    """Take what is more alike of the places that are tried and known."""
    inside: Hole = np.all((tried >= 0) & (tried < level.is_source.shape), axis=1)
    inside[inside] = level.is_source[tried[inside, 0], tried[inside, 1]]
    index = np.flatnonzero(inside & (tried != matches.places).any(1))
    distances = _measure(level, shown, tried[index], index)
    better = distances < matches.distances[index]
    matches.places[index[better]], matches.distances[index[better]] = tried[index[better]], distances[better]


def _measure(
    level: Level, shown: NDArray[np.float32], places: Places, index: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Sums of squared differences, exact, between known patches and the rows `index` of what is shown."""
    distances = np.empty(len(places), np.float32)
    for start in range(0, len(places), _TARGETS_AT_A_TIME):
        part = slice(start, start + _TARGETS_AT_A_TIME)
        rows = shown[part] if index is None else shown[index[part]]
        difference = rows - read_patches(level.picture, places[part], level.side)
        distances[part] = np.einsum("ij,ij->i", difference, difference)
    return distances
