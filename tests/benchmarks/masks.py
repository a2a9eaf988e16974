"""Masks a second on one core beside loops that draw the like with OpenCV. `python -m tests.benchmarks.masks`."""

import time
from collections.abc import Callable

import cv2
import numpy as np

from pipelines.chance import Chance
from pipelines.masks import MASKS
from pipelines.masks.recipe import recipe_for

SIZE_PX = 256
_random = np.random.default_rng(0)


def rate(draw: Callable[[], object], seconds: float = 0.5) -> float:
    """Calls a second of processor time."""
    started, calls = time.thread_time(), 0
    while time.thread_time() - started < seconds:
        draw()
        calls += 1
    return calls / (time.thread_time() - started)


def boxes_by_opencv() -> object:
    """One filled rectangle."""
    mask = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    low, size = _random.integers(0, SIZE_PX // 2, 2), _random.integers(32, SIZE_PX // 2, 2)
    return cv2.rectangle(mask, low.tolist(), (low + size).tolist(), 1, -1)


def strokes_by_opencv() -> object:
    """Up to four broken lines of round corners, drawn part by part."""
    mask = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    for _ in range(_random.integers(1, 5)):
        x, y = _random.integers(0, SIZE_PX, 2)
        width = int(_random.integers(12, 40))
        for _ in range(_random.integers(4, 12)):
            angle, length = _random.uniform(0, 2 * np.pi), _random.integers(10, 80)
            to_x, to_y = np.clip((x + length * np.sin(angle), y + length * np.cos(angle)), 0, SIZE_PX - 1).astype(int)
            cv2.line(mask, (int(x), int(y)), (int(to_x), int(to_y)), 1, width)
            cv2.circle(mask, (int(to_x), int(to_y)), width // 2, 1, -1)
            x, y = to_x, to_y
    return mask


def main() -> None:
    """A line for each family, bare and as its recipe draws it, and for each peer."""
    for family in MASKS:
        chance = Chance("benchmark", family)
        bare = rate(lambda: MASKS[family].draw(SIZE_PX, SIZE_PX, chance))  # noqa: B023
        whole = rate(lambda: recipe_for(family, SIZE_PX, SIZE_PX, 0, "mask", str(_random.integers(2**31))).draw())  # noqa: B023
        print(f"masks      {family:15} {bare:7.0f} a second; from a recipe of its own, checked, {whole:7.0f}")
    for name, draw in {"OpenCV box": boxes_by_opencv, "OpenCV strokes": strokes_by_opencv}.items():
        print(f"peer       {name:15} {rate(draw):7.0f} a second")


if __name__ == "__main__":
    main()
