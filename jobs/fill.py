"""`lacuna fill`: a photo and a mask -> the photo with its hole filled."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import cv2
import numpy as np

from infra import storage
from infra.places import refuse_read_only
from jobs.cli import as_module
from jobs.progress import say
from nets.filling import ChallengeSteps, NonFiniteFillError
from pipelines.data.cleaning import clean
from pipelines.data.recipe import ShardRecipe
from pipelines.decoding import Picture
from pipelines.evaluation.fillers import open_model
from pipelines.masks.bins import hole_ratio
from pipelines.masks.foreign import read_mask
from pipelines.records import Failed, Refused, Rejected
from pipelines.stream.geometry import decode


@dataclass(frozen=True)
class Arguments:
    """Fill the hole of a photo of any size; pixels outside the hole stay what they are."""

    model: str
    """`models:/NAME@champion`, `models:/NAME/VERSION`, a checkpoint or run URI, `telea` or `navier-stokes`."""
    image: str
    """URI of the photo."""
    mask: str
    """URI of the mask, of the photo's size."""
    out: str
    """URI of the PNG to write."""
    hole: Literal["auto", "white", "black"] = "auto"
    """Colour of the hole in the mask; auto is white, and refuses a mask that looks inverted."""
    ensemble: bool = False
    """The mean of five fills, of the photo transposed, that turned and mirrored, as DeepGIN's authors did for the AIM
    challenge; for a checkpoint."""
    blur: bool = False
    """Blur the fill a little, as DeepGIN's authors did for the AIM challenge; for a checkpoint."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Fills, writes and reports."""
    refuse_read_only(arguments.out)
    if PurePosixPath(arguments.out).suffix.lower() != ".png":
        raise Refused(f"--out is {arguments.out}: name a .png, the only format that keeps every pixel as it is")
    image, normalised = _read_photo(arguments.image)
    mask = read_mask(_read(arguments.mask), image.shape[:2], arguments.hole, arguments.mask)
    model = open_model(arguments.model, ChallengeSteps(arguments.ensemble, arguments.blur))
    try:
        filled = model.fill(image[None], mask[None])[0]
    except NonFiniteFillError as fault:
        raise Failed(f"{arguments.model} cannot fill {arguments.image}: {fault}") from None
    done, png = cv2.imencode(".png", cv2.cvtColor(filled, cv2.COLOR_RGB2BGR))
    if not done:
        raise RuntimeError("OpenCV could not encode the result as PNG")
    storage.publish(arguments.out, png.tobytes())
    size = {"width_px": image.shape[1], "height_px": image.shape[0]}
    done_before = {"normalised": list(normalised)} if normalised else {}
    return {**model.identity, "out": arguments.out, **size, "hole_ratio": round(hole_ratio(mask), 4), **done_before}


def _read(uri: str) -> bytes:
    if not storage.exists(uri):
        raise Refused(f"no file at {uri}")
    return storage.read_bytes(uri)


def _read_photo(uri: str) -> tuple[Picture, tuple[str, ...]]:
    """The photo, upright 8-bit RGB, and what had to be done to it for that; raises Refused where it is none."""
    sample = clean(_read(uri), ShardRecipe("folder", min_side_px=1, decode_check=True))
    if isinstance(sample, Rejected):
        raise Refused(f"{uri} cannot be filled: {sample.reason}")
    normalised = sample.normalised[:-1]  # the last is how it was encoded, and it is not kept
    if normalised:
        say(f"note: {uri} was made upright 8-bit RGB before it was filled: {', '.join(normalised)}")
    return np.ascontiguousarray(decode(sample.picture, uri)), normalised


if __name__ == "__main__":
    as_module("fill")
