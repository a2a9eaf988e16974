"""Masks a second on one core beside loops that draw the like with OpenCV. `python -m tests.benchmarks.masks`.

Three rates: the bare shape, one recipe drawn at a time, and many recipes drawn together, as a loader and a build do.
"""

import time
from collections.abc import Callable

import cv2
import numpy as np

from infra.settings import apply_defaults
from pipelines.keyed_rng import KeyedRng
from pipelines.masks import MASKS
from pipelines.masks.spec import MaskSpec, draw_masks, make_mask_spec

SIZE_PX = 256
TOGETHER = 32
TARGETS = {"freeform": 12_000, "brush": 6_000, "automaton": 6_000}
"""Masks a second and core with their recipes."""
_random = np.random.default_rng(0)


def rate(draw: Callable[[], object], seconds: float = 0.2, passes: int = 5) -> float:
    """Calls a second of processor time, the best of some passes."""
    best = 0.0
    for _ in range(passes):
        started, calls = time.thread_time(), 0
        while time.thread_time() - started < seconds:
            draw()
            calls += 1
        best = max(best, calls / (time.thread_time() - started))
    return best


def recipe(family: str) -> MaskSpec:
    """A fresh one."""
    return make_mask_spec(family, SIZE_PX, SIZE_PX, 0, "mask", str(_random.integers(2**31)))


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


def family_line(family: str) -> None:
    """Its three rates."""
    chance = KeyedRng("benchmark", family)
    bare = rate(lambda: MASKS[family].draw(SIZE_PX, SIZE_PX, chance))
    single = rate(lambda: recipe(family).draw())
    many = TOGETHER * rate(lambda: draw_masks([recipe(family) for _ in range(TOGETHER)]))
    target = f" (target {TARGETS[family]})" if family in TARGETS else ""
    print(f"masks      {family:15} {bare:7.0f} a second bare; with recipes, checked: {single:7.0f} one by one, "
          f"{many:7.0f} in {TOGETHER}s{target}")  # fmt: skip


def main() -> None:
    """A line for each family and for each peer."""
    apply_defaults()
    for family in MASKS:
        family_line(family)
    for name, draw in {"OpenCV box": boxes_by_opencv, "OpenCV strokes": strokes_by_opencv}.items():
        print(f"peer       {name:15} {rate(draw):7.0f} a second")


if __name__ == "__main__":
    main()
