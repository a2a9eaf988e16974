"""The file of a photo -> upright pixels, and what a result may keep of it: transparency, color profile, EXIF.

In: bytes of anything. Out: a `Photo`, or UsageError with the reason. What is a photo is decided as for datasets
(`pipelines.data.image.normalize`); a result is upright, so EXIF is kept without its orientation, thumbnail and TIFF
structure.
"""

import io
import warnings
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from PIL import Image

from pipelines.data.config import DatasetConfig
from pipelines.data.image.header import Header, read_header
from pipelines.data.image.normalize import read_pixels
from pipelines.decoding import Picture
from pipelines.records import Rejected, UsageError

Keepable = Literal["alpha", "icc", "exif"]
PHOTO_CONFIG: Final = DatasetConfig("folder", min_side_px=1)
"""Config by which a file counts as a photo: anything of up to 100 megapixels that a dataset takes, however small."""
_BITS: Final = 8
_PROFILE_DROPPED: Final = "colour profile dropped"
_EXIF_IFD, _WIDTH, _HEIGHT = 0x8769, 0xA002, 0xA003
_STRUCTURE: Final = frozenset(
    {*range(254, 260), 262, 263, 266, 273, 274, *range(277, 282), 284, 317, *range(320, 326), 330, 338, 339, 347}
    | {*range(512, 522), 529, 530, 531, 532, 700, 33723, 34377, 34675}
)
"""EXIF and TIFF tags that say how the pixels were stored: layout, orientation, thumbnail; and XMP, IPTC and profile."""


@dataclass(frozen=True)
class Photo:
    """A photo, upright, and what of its file a result may keep."""

    pixels: Picture
    """RGB HxWx3; where `alpha` is not None as stored, elsewhere with transparency on white."""
    alpha: Picture | None
    """HxW, 0 = transparent."""
    icc: bytes | None
    exif: bytes | None
    normalized: tuple[str, ...]
    """What was done to the pixels, and what of the file is dropped."""
    header: Header

    @property
    def size(self) -> tuple[int, int]:
        """Height and width once upright, px."""
        return self.pixels.shape[0], self.pixels.shape[1]


def read_photo(data: bytes, where: str, keep: frozenset[str] = frozenset(), needs_alpha: bool = False) -> Photo:
    """The photo of a file named `where` in messages; `keep` has names of `Keepable`.

    Raises UsageError where it is none, or lacks a transparency that is needed.
    """
    wants_alpha = needs_alpha or "alpha" in keep
    found = read_pixels(data, PHOTO_CONFIG, wants_alpha)
    header = read_header(data)
    if isinstance(found, Rejected) or isinstance(header, Rejected):
        reason = found.reason if isinstance(found, Rejected) else "no header"
        raise UsageError(f"{where} cannot be filled: {reason}")
    pixels, done = found
    alpha = pixels[..., 3] if pixels.ndim == 3 and pixels.shape[2] == 4 else None
    if needs_alpha and alpha is None:
        raise UsageError(f"{where} has no transparency for --hole alpha: give its hole as --mask")
    icc, exif, dropped = _read_metadata(data, header, keep)
    notes = [note for note in done if note != _PROFILE_DROPPED] + dropped
    if alpha is not None and header.bits != _BITS:
        notes.append(f"{header.bits} bits a channel to {_BITS}")
    return Photo(_to_rgb(pixels), alpha, icc, exif, tuple(notes), header)


def _to_rgb(pixels: Picture) -> Picture:
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])


def _read_metadata(data: bytes, header: Header, keep: frozenset[str]) -> tuple[bytes | None, bytes | None, list[str]]:
    """Color profile and EXIF to keep, and what is dropped of them; a file that Pillow cannot open has neither."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=(header.format,)) as image:
                profile, mode = image.info.get("icc_profile"), image.mode
                exif = _keep_exif(image.getexif(), header) if "exif" in keep else None
    except MemoryError:
        raise
    except Exception as fault:  # noqa: BLE001 - hostile metadata makes Pillow raise anything; the pixels are sound
        return None, None, [f"metadata dropped: Pillow cannot read it ({type(fault).__name__})"]
    if not profile:
        return None, exif, []
    space = profile[16:20].decode("latin-1").strip()
    if space != "RGB" or mode not in ("RGB", "RGBA", "P", "PA"):
        return None, exif, [f"{_PROFILE_DROPPED}: it is for {space or 'no'} pixels"]
    return (profile, exif, []) if "icc" in keep else (None, exif, [_PROFILE_DROPPED])


def _keep_exif(exif: Image.Exif, header: Header) -> bytes | None:
    """EXIF for the upright result, None where nothing is left to keep."""
    details = exif.get_ifd(_EXIF_IFD) if _EXIF_IFD in exif else {}  # asking makes an empty one
    for tag, length in zip((_WIDTH, _HEIGHT), header.upright_size, strict=True):
        if tag in details:
            details[tag] = length
    for tag in _STRUCTURE & set(exif):
        del exif[tag]
    return exif.tobytes() if len(exif) else None
