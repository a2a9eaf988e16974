"""Picture files of another system: read once before any scoring, for their size and digest, and once for their pixels.

In: URIs. Out: `PictureFile`, or a refusal that names the files; pixels, upright RGB of 8 bits.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipelines.data.image.header import Header, read_header
from pipelines.data.image.normalize import read_pixels
from pipelines.data.image.truncation import find_missing_part
from pipelines.decoding import Picture
from pipelines.filling.files import read_file
from pipelines.filling.orientation import lay_on
from pipelines.filling.pairing import join_some
from pipelines.filling.photo_files import PHOTO_CONFIG
from pipelines.records import CorruptDataError, Rejected, UsageError, sha256_hex

_READS_AT_ONCE: Final = 8


@dataclass(frozen=True)
class PictureFile:
    """A file that is a whole picture by its header and its end."""

    uri: str
    sha256: str
    header: Header

    def read(self) -> bytes:
        """All bytes; raises CorruptDataError where they are others than before."""
        data = read_file(self.uri)
        if sha256_hex(data) != self.sha256:
            raise CorruptDataError(f"{self.uri} changed during its evaluation: evaluate it again")
        return data


def inspect_files(uris: Iterable[str], option: str) -> dict[str, PictureFile]:
    """Files by URI, several read at once; raises UsageError naming those that are no whole pictures."""
    distinct = sorted(set(uris))
    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        found = list(pool.map(_inspect, distinct))
    refused = [line for line in found if isinstance(line, str)]
    if refused:
        raise UsageError(f"{option}: {len(refused)} of {len(found)} files cannot be read: {join_some(refused)}")
    return {file.uri: file for file in found if isinstance(file, PictureFile)}


def _inspect(uri: str) -> PictureFile | str:
    """The file, or its URI with the reason to refuse it."""
    try:
        data = read_file(uri)
    except OSError as fault:
        return f"{uri} ({type(fault).__name__})"
    header = read_header(data)
    if isinstance(header, Rejected):
        return f"{uri} ({header.reason})"
    if (missing := find_missing_part(data, header)) is not None:
        return f"{uri} (cut or damaged: {missing})"
    if header.format == "TIFF" and isinstance(found := read_pixels(data, PHOTO_CONFIG), Rejected):
        return f"{uri} ({found.reason}; save it as PNG of 8 bits a channel)"  # its header does not say what it holds
    return PictureFile(uri, sha256_hex(data), header)


def fits(photo: Header, other: Header) -> bool:
    """Whether a picture has the size of its photo, as that is seen or as it is stored."""
    return other.upright_size in (photo.upright_size, (photo.width_px, photo.height_px))


def is_turned_in_doubt(photo: Header, other: Header) -> bool:
    """Whether nothing says how a picture lies on a photo that EXIF turns: it has no EXIF and fits both ways."""
    stored = photo.width_px, photo.height_px
    return photo.orientation != 1 and other.orientation == 1 and photo.upright_size == stored == other.upright_size


def read_opaque(file: PictureFile, photo: Header | None = None) -> tuple[Picture, tuple[str, ...]]:
    """Pixels HxWx3 of a file as its photo lies, and the list of conversions; `photo` is None for the photo itself.

    Raises UsageError naming a file that cannot be decoded or has transparent pixels.
    """
    pixels, notes = read_layers(file, photo)
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2), notes
    if pixels.shape[2] == 4:
        if pixels[..., 3].min() < 255:
            share = float((pixels[..., 3] < 255).mean())
            raise UsageError(f"{file.uri} is {share:.0%} transparent: save it as RGB without transparency")
        notes = (*notes, "opaque alpha channel dropped")
    return np.ascontiguousarray(pixels[..., :3]), notes


def read_layers(file: PictureFile, photo: Header | None = None) -> tuple[Picture, tuple[str, ...]]:
    """Pixels HxW, HxWx3 or, of a file with transparency, HxWx4, as the photo lies, and the list of conversions."""
    found = read_pixels(file.read(), PHOTO_CONFIG, with_alpha=True)
    if isinstance(found, Rejected):
        raise UsageError(f"{file.uri}: {found.reason}. Save it as PNG of 8 bits a channel")
    pixels, notes = found
    if photo is not None and file.header.orientation == 1:
        pixels = lay_on(photo, 1, "auto", file.uri)(pixels)
    return pixels, notes


def name_sizes(uris: Sequence[tuple[PictureFile, PictureFile]]) -> str:
    """Photos and their results or masks of another size, in a message."""
    return join_some(
        [
            f"{other.uri} is {_format_size(other.header)}, its photo {_format_size(photo.header)}"
            for photo, other in uris
        ]
    )


def _format_size(header: Header) -> str:
    return "x".join(map(str, header.upright_size))
