"""One photo filled, from the bytes of its files to the bytes of its results.

In: what was read for a job, a model and settings. Out: a file for each fill, and what a report says of them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import cv2
import numpy as np
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, interpolate

from nets.procedures.noise import make_noise_keys
from pipelines.decoding import Picture
from pipelines.evaluation.models import Model
from pipelines.filling.encode import Encoding, encode
from pipelines.filling.hole import HoleSettings, feather, grow, read_hole
from pipelines.filling.pairing import MASK, Job
from pipelines.filling.photo_files import Photo, read_photo
from pipelines.filling.planes import read_plane
from pipelines.masks.bins import hole_ratio
from pipelines.records import UsageError

_MAX_FILLS: Final = 1000
FillOne = Callable[[Picture, Picture, Mapping[str, Tensor]], Picture]
"""Photo HxWx3, hole HxW and planes 1xCxHxW beside them -> filled HxWx3."""


@dataclass(frozen=True)
class FillSettings:
    """How photos are filled, beside the model."""

    encoding: Encoding
    hole: HoleSettings = field(default_factory=HoleSettings)
    keep: tuple[str, ...] = ()
    """Names of `photo_files.Keepable`."""
    size_px: int | None = None
    """Longer side at which holes are filled; None is the photo's own."""
    num_fills: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size_px is not None and self.size_px < 1:
            raise UsageError(f"--size is {self.size_px}: it must be at least 1 px, or `own`")
        if not 1 <= self.num_fills <= _MAX_FILLS:
            raise UsageError(f"--num-fills is {self.num_fills}: it must be 1 to {_MAX_FILLS}")

    def as_json(self) -> dict[str, Any]:
        """All that results depend on beside the model and the files."""
        return {**asdict(self), "keep": sorted(self.keep)}

    def list_file_names(self, name: str) -> list[str]:
        """Names of the results of a photo: `name.png`, or `name_1.png` ... for several fills."""
        ends = [""] if self.num_fills == 1 else [f"_{number}" for number in range(1, self.num_fills + 1)]
        return [f"{name}{end}{self.encoding.suffix}" for end in ends]


def refuse_untaken(model: Model, guides: Mapping[str, Any], num_fills: int) -> None:
    """Raise UsageError for what is given beside photos and masks to a model that does not take it."""
    name = model.identity["model"]
    for plane in sorted({"sketch", "segmentation"} & set(guides)):
        if plane not in model.takes:
            raise UsageError(f"--{plane}: {name} takes no {plane}: leave it out, or name a network trained with one")
    if num_fills > 1 and "noise" not in model.takes:
        raise UsageError(f"--num-fills is {num_fills}: {name} has one fill for a hole; name a probabilistic network")


@dataclass(frozen=True)
class Filled:
    """Result of a fill."""

    facts: dict[str, Any]
    """`width_px`, `height_px`, `hole_ratio`, and `num_gray_px` where gray pixels of the mask count as known."""
    normalized: tuple[str, ...]
    notes: tuple[str, ...]
    """What a user should know of its hole."""
    files: Iterator[bytes]
    """A file for each fill; each is filled when it is asked for."""


def fill_photo(job: Job, files: Mapping[str, bytes], model: Model, settings: FillSettings) -> Filled:
    """The results of a job whose files were read (`image` and those beside it).

    Raises UsageError where they cannot be filled, NonFiniteFillError where the model's weights are unusable.
    """
    from_alpha = MASK not in files
    photo = read_photo(files["image"], job.image, frozenset(settings.keep), needs_alpha=from_alpha)
    hole = read_hole(photo, files.get(MASK), job.inputs.get(MASK, job.image), settings.hole)
    planes = {
        name: read_plane(name, files[name], photo, uri, settings.hole.orientation)
        for name, uri in job.inputs.items()
        if name != MASK
    }
    height, width = photo.size
    facts: dict[str, Any] = {"width_px": width, "height_px": height, "hole_ratio": round(hole_ratio(hole.mask), 4)}
    notes: tuple[str, ...] = ()
    if hole.num_gray:
        facts["num_gray_px"] = hole.num_gray
        notes = (f"{hole.num_gray} px of the mask are gray and count as known: --grow PX fills them around its hole",)
    return Filled(facts, photo.normalized, notes, _results(job, photo, hole.mask, planes, model, settings))


def _results(
    job: Job, photo: Photo, hole: Picture, planes: Mapping[str, Tensor], model: Model, settings: FillSettings
) -> Iterator[bytes]:
    area = grow(hole, settings.hole.feather_px)
    alpha = photo.alpha if "alpha" in settings.keep else None
    if alpha is not None and MASK not in job.inputs:
        alpha = np.where(area > 0, np.uint8(255), alpha)  # what was transparent is filled now
    for number in range(settings.num_fills):
        noise = None if settings.num_fills == 1 else make_noise_keys(settings.seed, number, 1)

        def fill(image: Picture, mask: Picture, guides: Mapping[str, Tensor], noise: Any = noise) -> Picture:
            return np.asarray(model.fill(image[None], mask[None], guides, noise)[0], np.uint8)

        filled = _fill_at(fill, photo.pixels, area, planes, settings.size_px, job.image)
        filled = feather(photo.pixels, filled, hole, settings.hole.feather_px)
        yield encode(filled, settings.encoding, alpha, photo.icc, photo.exif, job.image)


def _fill_at(
    fill: FillOne, photo: Picture, hole: Picture, planes: Mapping[str, Tensor], size_px: int | None, where: str
) -> Picture:
    """The photo filled at a longer side of `size_px`; its known pixels are its own, and it is not enlarged for it."""
    height, width = hole.shape
    scale = 1.0 if size_px is None else size_px / max(height, width)
    if scale >= 1:
        return fill(photo, hole, planes)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = np.asarray(cv2.resize(photo, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    holes = (cv2.resize(hole.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    if holes.all():
        raise UsageError(f"{where}: at --size {size_px} no known pixel is left beside its holes: take a larger one")
    smaller = {
        name: adaptive_max_pool2d(plane, size) if name == "sketch" else interpolate(plane, size, mode="nearest")
        for name, plane in planes.items()
    }
    large = cv2.resize(fill(small, holes, smaller), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.where(hole[..., None] > 0, np.asarray(large, np.uint8), photo)
