"""Mask recipes: one line of ASCII from which a mask is drawn again, bit for bit, on any machine.

    rectangle 1 drawn=256x256 64x64 any 0/mask/celeba/000123
    freeform 1 scaled=512x512 512x512 0.3-0.4 0/mask/places2/b-beach-17
    irregular 1 drawn=512x512 file=00042.png sha256=9f86… 256x256 0.1-0.2 0/mask/celeba/000123

is: family, version, the canvas it is drawn on (`drawn`: lengths are the paper's pixels; `scaled`: they grow with the
shorter side, 256 being the paper's), the file with its SHA-256 where the shape comes from one, height x width of what
the network sees (nearest neighbours of the canvas), wanted hole-ratio bin at that size (`any`: not chosen), seed path.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.chance import Chance
from pipelines.masks import FILE_MASKS, MASKS
from pipelines.masks.bins import BINS, bin_of
from pipelines.masks.foreign import read_grey
from pipelines.masks.reduction import resize_nearest
from pipelines.records import Damaged, Refused, sha256_hex

ANY: Final = "any"
_MAX_TRIES = 5000
_PROBES, _LEAST_SHARE = 1000, 0.01
_NUMBER = "(0|[1-9][0-9]{0,8})"
_SIZE = f"{_NUMBER}x{_NUMBER}"
_FILE = "(?: file=([!-~]+) sha256=([0-9a-f]{64}))?"
_BIN = f"({'|'.join(map(re.escape, (ANY, *BINS)))})"
_LINE = re.compile(f"([a-z-]+) {_NUMBER} (drawn|scaled)={_SIZE}{_FILE} {_SIZE} {_BIN} ([!-~]+)")


@dataclass(frozen=True)
class MaskFile:
    """The file that a mask is made of: its name in its folder, printable ASCII without spaces, and its SHA-256."""

    name: str
    sha256: str


@dataclass(frozen=True)
class MaskRecipe:
    """One mask, as text. Sizes are (height, width) in pixels."""

    family: str
    version: int
    drawn_px: tuple[int, int]
    size_px: tuple[int, int]
    seed_path: str
    bin: str = ANY
    scaled: bool = False
    file: MaskFile | None = None

    def line(self) -> str:
        """The recipe as one line of ASCII."""
        drawn, size = ("x".join(map(str, s)) for s in (self.drawn_px, self.size_px))
        file = f" file={self.file.name} sha256={self.file.sha256}" if self.file else ""
        canvas = f"{'scaled' if self.scaled else 'drawn'}={drawn}{file}"
        return f"{self.family} {self.version} {canvas} {size} {self.bin} {self.seed_path}"

    def draw(self, files: Callable[[str], bytes] | None = None) -> NDArray[np.uint8]:
        """The mask, uint8 HxW in {0, 1}; drawn anew until it is neither empty nor full and in its bin at that size.

        `files` gives the bytes of a mask file of a name. Raises Refused where no mask comes out, Damaged where the file
        is not that of the recipe.
        """
        draw, chance = self._hand(files), Chance(self.seed_path, self.family)
        for _ in range(_MAX_TRIES):
            mask = resize_nearest(draw(chance), *self.size_px)
            if 0 < np.count_nonzero(mask) < mask.size and self.bin in (ANY, bin_of(mask)):
                return mask
        wanted, advice = ("", "") if self.bin == ANY else (f" or not in {self.bin}", " or another bin")
        raise Refused(
            f"no mask follows {self.line()!r}: {_MAX_TRIES} came out empty or full{wanted}; "
            f"take {'another file' if self.file else 'a larger canvas'}{advice}"
        )

    def _hand(self, files: Callable[[str], bytes] | None) -> Callable[[Chance], NDArray[np.uint8]]:
        """What draws one mask on the canvas."""
        known = MASKS if self.file is None else FILE_MASKS
        if self.family not in known or known[self.family].version != self.version:
            raise Refused(
                f"no {'mask family' if self.file is None else 'family of mask files'} {self.family!r} of version "
                f"{self.version} here: known are {', '.join(f'{name} {f.version}' for name, f in known.items())}"
            )
        height, width = self.drawn_px
        if self.file is None:
            side_px = min(self.drawn_px) if self.scaled else 256
            return lambda chance: MASKS[self.family].draw(height, width, chance, side_px)
        grey = _read(self.file, files)
        return lambda chance: FILE_MASKS[self.family].draw(grey, height, width, chance)


def _read(file: MaskFile, files: Callable[[str], bytes] | None) -> NDArray[np.uint8]:
    """Grey levels HxW of the file, proven to be the recipe's."""
    if files is None:
        raise Refused(f"the mask is made of the file {file.name}: give the folder of the mask files")
    data = files(file.name)
    if (found := sha256_hex(data)) != file.sha256:
        raise Damaged(f"{file.name} has SHA-256 {found}, its recipe says {file.sha256}: another file, or damaged")
    return read_grey(data, file.name)


def parse_recipe(line: str) -> MaskRecipe:
    """The recipe of a line; raises Refused naming the line and the form it should have."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise Refused(
            f"not a mask recipe: {line!r}; expected 'FAMILY VERSION drawn=HxW HxW BIN SEED/PATH', scaled= in place of "
            f"drawn= or file=NAME sha256=DIGEST after it, and as BIN {ANY} or one of {', '.join(BINS)}"
        )
    family, version, canvas, drawn_h, drawn_w, name, digest, height, width, wanted, path = match.groups()
    drawn, size = (int(drawn_h), int(drawn_w)), (int(height), int(width))
    file = MaskFile(name, digest) if name else None
    return MaskRecipe(family, int(version), drawn, size, path, wanted, canvas == "scaled", file)


def recipe_for(
    family: str, drawn_px: int, size_px: int, *path: int | str, bin: str = ANY, scaled: bool = False
) -> MaskRecipe:
    """A recipe for square masks of the family's present version; `path` is the seed path, joined by slashes.

    Raises Refused for an unknown family, and for a bin that its masks of that size do not or hardly ever reach.
    """
    if family not in MASKS:
        raise Refused(f"unknown mask family {family!r}: known are {', '.join(MASKS)}")
    if bin != ANY:
        _refuse_unreachable(family, drawn_px, size_px, scaled, bin)
    canvas, size = (drawn_px, drawn_px), (size_px, size_px)
    return MaskRecipe(family, MASKS[family].version, canvas, size, "/".join(map(str, path)), bin, scaled)


def recipe_for_file(
    family: str, name: str, data: bytes, drawn_px: int, size_px: int, *path: int | str, bin: str = ANY
) -> MaskRecipe:
    """A recipe for a square mask made of the file of that name with these bytes; drawn once to see that it can be.

    Raises Refused for an unknown family, an impossible name, and for a file that makes no mask of that bin.
    """
    if family not in FILE_MASKS:
        raise Refused(f"unknown family of mask files {family!r}: known are {', '.join(FILE_MASKS)}")
    if re.fullmatch("[!-~]+", name) is None:
        raise Refused(f"no recipe can name the mask file {name!r}: use printable ASCII without spaces")
    file, version = MaskFile(name, sha256_hex(data)), FILE_MASKS[family].version
    canvas, size = (drawn_px, drawn_px), (size_px, size_px)
    recipe = MaskRecipe(family, version, canvas, size, "/".join(map(str, path)), bin, file=file)
    recipe.draw(lambda _: data)
    return recipe


@lru_cache(maxsize=64)
def bin_shares(family: str, drawn_px: int, size_px: int, scaled: bool = False) -> Mapping[str, float]:
    """The share of the family's masks in every bin, measured on 1,000 fixed ones; empty and full masks do not count."""
    counts = dict.fromkeys(BINS, 0)
    for number in range(_PROBES):
        mask = recipe_for(family, drawn_px, size_px, "shares", number, scaled=scaled).draw()
        counts[bin_of(mask)] += 1
    return {name: count / _PROBES for name, count in counts.items()}


def _refuse_unreachable(family: str, drawn_px: int, size_px: int, scaled: bool, wanted: str) -> None:
    if wanted not in BINS:
        raise Refused(f"unknown hole-ratio bin {wanted!r}: known are {ANY}, {', '.join(BINS)}")
    shares = bin_shares(family, drawn_px, size_px, scaled)
    if shares[wanted] < _LEAST_SHARE:
        reached = ", ".join(name for name, share in shares.items() if share >= _LEAST_SHARE)
        raise Refused(
            f"{family} masks of {size_px}x{size_px} drawn at {drawn_px}x{drawn_px} have a hole ratio in {wanted} "
            f"{shares[wanted]:.1%} of the time, less than {_LEAST_SHARE:.0%}: take another family or one of {reached}"
        )
