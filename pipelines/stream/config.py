"""How photos become what the network sees, as data: the part of a training recipe that the stream reads.

In: names and numbers. Out: a checked configuration. Apart from the stream because recipes are written, shown and
compared without it.
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
"""Planes by the names that networks know, and what they are called in a shard."""
DRAWN: Final = ("sketch",)
"""Planes that can be drawn from the photo as it is needed."""
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
"""The most that the numbers of a config may be, and whether they may be None."""


@dataclass(frozen=True)
class Transform:
    """A transform of albumentations and its arguments; those that are not given have its defaults."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> A.BasicTransform:
        """The transform; raises UsageError where there is none of this name, or it does not take the arguments."""
        kind = getattr(A, self.name, None)
        if not (isinstance(kind, type) and issubclass(kind, A.BasicTransform)):
            raise UsageError(f"unknown transform {self.name!r}: take a name of albumentations")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # its word for an argument that it does not know
                return kind(**self.arguments)
        except (TypeError, ValueError, NotImplementedError, UserWarning) as fault:
            raise UsageError(f"the transform {self.name} does not take {dict(self.arguments)}: {fault}") from None


def refuse_missing_planes(dataset: Dataset, config: "StreamConfig") -> None:
    """Raises UsageError where the dataset was built without a plane that the config wants."""
    for name in config.planes:
        if PLANES[name] not in dataset.commit["recipe"]["planes"]:
            raise UsageError(f"{dataset.uri} has no plane {name!r}: build it with --planes {PLANES[name]}")


@dataclass(frozen=True)
class StreamConfig:
    """How photos become what the network sees."""

    size_px: int = 256
    """Height and width of images and masks."""
    resize: str = "squash"
    """How photos come to that size, a name of RESIZES."""
    resize_px: int | None = None
    """The size that `resize` brings photos to where a transform then crops them to `size_px`; else not given."""
    augment: tuple[Transform, ...] = (Transform("HorizontalFlip"),)
    """Transforms of albumentations, applied in this order to photo and planes alike, seeded per sample."""
    masks: tuple[str, ...] = ("rectangle", "automaton", "brush")
    """Mask families; each photo gets one mask of each."""
    mask_canvas_px: int = 256
    """The size at which masks are drawn before they are reduced to `size_px`."""
    planes: tuple[str, ...] = ()
    """Further pictures that every batch brings out of its shards, names of PLANES."""
    sketch_planes: tuple[str, ...] = ()
    """Those that are made of the photo when it is read, names of DRAWN: the sketch, of the plane `edge` if it is among
    the planes and else by the built-in detector."""
    sketch_threshold: float = THRESHOLD
    """Of edge maps in [0, 1]: what is above it becomes a line."""
    large_px: int | None = None
    """The size of the plane `image_large`, the same view of the photo as the image; none if not given."""
    damaged: str = "raise"
    """What a damaged sample does: `raise` stops, `replace` takes the next one of its lane, and names both."""
    num_lanes: int = 24
    block_size: int = 1024

    def __post_init__(self) -> None:
        self._check_names()
        self._check_numbers()
        self._check_drawn()
        if self.large_px is not None and self.resize_px not in (None, self.size_px):
            raise UsageError(f"large_px and resize_px {self.resize_px} do not go together: {LARGE} is not cropped")
        for transform in self.augment:
            if not isinstance(transform, Transform):
                raise UsageError(f"augment has {transform!r}: write Transform(NAME, ARGUMENTS)")
            transform.build()

    def _check_drawn(self) -> None:
        for name in self.sketch_planes:
            if name in self.planes:
                raise UsageError(f"{name!r} is in planes and in sketch_planes: read it from the shards or have it made")
        if not 0 <= self.sketch_threshold < 1:
            raise UsageError(f"sketch_threshold is {self.sketch_threshold}: it must be from 0 to less than 1")

    def _check_numbers(self) -> None:
        for name, (most, may_lack) in _NUMBERS.items():
            value = getattr(self, name)
            if may_lack and value is None:
                continue
            if not isinstance(value, int) or not 1 <= value <= most:
                raise UsageError(f"{name} is {value!r}: it must be a whole number from 1 to {most}")

    def _check_names(self) -> None:
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
                    raise UsageError(f"unknown {name} {value!r}: known are {', '.join(known)}")
