"""Configuration of the stream: the part of a training recipe that says how photos become the network's input.

In: names and numbers. Out: a checked configuration.
"""

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import albumentations as A

from pipelines.manifest import Dataset
from pipelines.masks import MASKS
from pipelines.records import UsageError
from pipelines.stream.geometry import RESIZES
from pipelines.stream.sketching import THRESHOLD

PLANES: Final = {"segmentation": "seg", "edge": "edge", "sketch": "sketch"}
"""Planes: the network's name -> the name in a shard."""
DRAWN: Final = ("sketch",)
"""Planes that can be drawn from the photo on demand."""
LARGE: Final = "image_large"
DAMAGED: Final = ("raise", "replace")
_MAX_PX: Final = 8192
_NUMBERS: Final = {
    "size_px": (_MAX_PX, False),
    "resize_px": (_MAX_PX, True),
    "large_px": (_MAX_PX, True),
    "mask_canvas_px": (_MAX_PX, False),
    "num_lanes": (2**20, False),
    "block_size": (2**20, False),
}
"""Maximum of each number of a config, and whether it may be None."""


@dataclass(frozen=True)
class Transform:
    """Transform of albumentations and its arguments; others have their defaults."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> A.BasicTransform:
        """Transform object; raises UsageError for an unknown name or arguments that it does not take."""
        kind = getattr(A, self.name, None)
        if not (isinstance(kind, type) and issubclass(kind, A.BasicTransform)):
            raise UsageError(f"unknown transform {self.name!r}: use a name of albumentations")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # albumentations warns of unknown arguments
                return kind(**self.arguments)
        except (TypeError, ValueError, NotImplementedError, UserWarning) as fault:
            raise UsageError(f"the transform {self.name} does not take {dict(self.arguments)}: {fault}") from None


def refuse_missing_planes(dataset: Dataset, config: "StreamConfig") -> None:
    """Raise UsageError where the dataset was built without a plane that the config wants."""
    for name in config.planes:
        if PLANES[name] not in dataset.commit["recipe"]["planes"]:
            raise UsageError(f"{dataset.uri} has no plane {name!r}: build it with --planes {PLANES[name]}")


@dataclass(frozen=True)
class StreamConfig:
    """Settings that turn photos into the network's input."""

    size_px: int = 256
    """Height and width of images and masks."""
    resize: str = "squash"
    """Policy that brings photos to that size, a name of RESIZES."""
    resize_px: int | None = None
    """Size that `resize` brings photos to where a transform then crops them to `size_px`; else None."""
    augment: tuple[Transform, ...] = (Transform("HorizontalFlip"),)
    """Transforms of albumentations, applied in this order to photo and planes alike, seeded per sample."""
    masks: tuple[str, ...] = ("rectangle", "automaton", "brush")
    """Mask families; each photo gets one mask of each."""
    mask_canvas_px: int = 256
    """Size at which masks are drawn before they are reduced to `size_px`."""
    planes: tuple[str, ...] = ()
    """Further pictures that every batch reads from its shards, names of PLANES."""
    sketch_planes: tuple[str, ...] = ()
    """Planes that are made of the photo when it is read, names of DRAWN: the sketch, from the plane `edge` if that is
    among the planes, else by the built-in detector."""
    sketch_threshold: float = THRESHOLD
    """Level of edge maps in [0, 1] above which a pixel becomes a line."""
    large_px: int | None = None
    """Size of the plane `image_large`, the same view of the photo as the image; none if not given."""
    damaged: str = "raise"
    """Policy for a damaged sample: `raise` stops, `replace` takes the next one of its lane, and names both."""
    num_lanes: int = 24
    block_size: int = 1024

    def __post_init__(self) -> None:
        self._refuse_unknown_names()
        self._refuse_wrong_numbers()
        for name in self.sketch_planes:
            if name in self.planes:
                raise UsageError(f"{name!r} is in planes and in sketch_planes: remove it from one of them")
        if not 0 <= self.sketch_threshold < 1:
            raise UsageError(f"sketch_threshold is {self.sketch_threshold}: it must be from 0 to less than 1")
        if self.large_px is not None and self.resize_px not in (None, self.size_px):
            raise UsageError(f"large_px excludes resize_px {self.resize_px}, as {LARGE} is not cropped: remove one")
        for transform in self.augment:
            if not isinstance(transform, Transform):
                raise UsageError(f"augment has {transform!r}: write Transform(NAME, ARGUMENTS)")
            transform.build()

    def _refuse_wrong_numbers(self) -> None:
        for name, (most, is_optional) in _NUMBERS.items():
            value = getattr(self, name)
            if is_optional and value is None:
                continue
            if not isinstance(value, int) or not 1 <= value <= most:
                raise UsageError(f"{name} is {value!r}: it must be an integer from 1 to {most}")

    def _refuse_unknown_names(self) -> None:
        given: dict[str, tuple[Collection[str], tuple[str, ...]]] = {
            "resize": (RESIZES, (self.resize,)),
            "mask family": (MASKS, self.masks),
            "plane": (PLANES, self.planes),
            "sketch plane": (DRAWN, self.sketch_planes),
            "damaged": (DAMAGED, (self.damaged,)),
        }
        for name, (known, values) in given.items():
            for value in values:
                if value not in known:
                    raise UsageError(f"unknown {name} {value!r}: use one of {', '.join(known)}")
