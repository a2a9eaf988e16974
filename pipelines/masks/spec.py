"""Mask specs: one line of ASCII from which a mask is drawn again, bit for bit, on any machine.

    rectangle 1 drawn=256x256 64x64 any 0/mask/celeba/000123
    freeform 1 scaled=512x512 512x512 0.3-0.4 0/mask/places2/b-beach-17
    irregular 1 drawn=512x512 file=00042.png sha256=9f86… 256x256 0.1-0.2 0/mask/celeba/000123

A line holds: family, version, the canvas (`drawn`: lengths are the paper's pixels; `scaled`: they grow with the shorter
side, 256 being the paper's), the file with its SHA-256 where the shape comes from one, height x width of what the
network sees (nearest neighbors of the canvas), wanted hole-ratio bin at that size (`any`: not chosen), seed path.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.keyed_rng import KeyedRng
from pipelines.masks import FILE_MASKS, MASKS, FileMaskFamily, MaskFamily
from pipelines.masks.bins import BINS, find_bin
from pipelines.masks.capsules import Sketch, draw_sketches
from pipelines.masks.foreign import read_gray, refuse_odd_file
from pipelines.masks.reduction import resize_nearest
from pipelines.records import CorruptDataError, UsageError, sha256_hex

ANY: Final = "any"
_MAX_TRIES = 5000
_MAX_CANVAS_PX: Final = 2048
"""Longest side of a canvas on which a mask is drawn again, twice that for narrow ones: strokes have a largest width."""
_PROBES, _LEAST_SHARE = 1000, 0.01
_NUMBER = "(0|[1-9][0-9]{0,8})"
_SIZE = f"{_NUMBER}x{_NUMBER}"
_FILE = "(?: file=([!-~]+) sha256=([0-9a-f]{64}))?"
_BIN = f"({'|'.join(map(re.escape, (ANY, *BINS)))})"
_LINE = re.compile(f"([a-z-]+) {_NUMBER} (drawn|scaled)={_SIZE}{_FILE} {_SIZE} {_BIN} ([!-~]+)")


class UnreachableRatioError(UsageError):
    """No mask with a hole, something around it, and a ratio in the wanted bin came out."""


@dataclass(frozen=True)
class MaskFile:
    """File that a mask is made of: its name in its folder, printable ASCII without spaces, and its SHA-256."""

    name: str
    sha256: str


@dataclass(frozen=True)
class MaskSpec:
    """Everything from which one mask is drawn. Sizes are (height, width) in pixels."""

    family: str
    version: int
    drawn_px: tuple[int, int]
    size_px: tuple[int, int]
    seed_path: str
    bin: str = ANY
    scaled: bool = False
    file: MaskFile | None = None

    @property
    def side_px(self) -> int:
        """Side that lengths refer to: 256, or the canvas's shorter one where they grow with it."""
        return min(self.drawn_px) if self.scaled else 256

    def line(self) -> str:
        """Spec as one line of ASCII."""
        drawn, size = ("x".join(map(str, s)) for s in (self.drawn_px, self.size_px))
        file = f" file={self.file.name} sha256={self.file.sha256}" if self.file else ""
        canvas = f"{'scaled' if self.scaled else 'drawn'}={drawn}{file}"
        return f"{self.family} {self.version} {canvas} {size} {self.bin} {self.seed_path}"

    def draw(self, files: Callable[[str], bytes] | None = None) -> NDArray[np.uint8]:
        """Mask uint8 HxW in {0, 1}; see `draw_masks`."""
        return draw_masks([self], files)[0]


def draw_masks(specs: Sequence[MaskSpec], files: Callable[[str], bytes] | None = None) -> list[NDArray[np.uint8]]:
    """Masks uint8 HxW in {0, 1}, each drawn again until it is neither empty nor full and in its bin.

    Many at once cost less than one by one and are the same. `files` returns the bytes of a mask file by its name.
    Raises UnreachableRatioError where no mask comes out, CorruptDataError where a file is not that of the spec.
    """
    rngs = [KeyedRng(spec.seed_path, spec.family) for spec in specs]
    masks: dict[int, NDArray[np.uint8]] = {}
    for turn in range(_MAX_TRIES):
        waiting = [number for number in range(len(specs)) if number not in masks]
        if not waiting:
            return [masks[number] for number in range(len(specs))]
        for spec in (specs[n] for n in waiting if turn):
            if spec.file and not FILE_MASKS[spec.family].is_random:  # another try gives the same mask
                raise UnreachableRatioError(_describe_failure(spec, 1))
        for number, drawn in _draw_once({n: (specs[n], rngs[n]) for n in waiting}, files):
            mask, wanted = resize_nearest(drawn, *specs[number].size_px), specs[number].bin
            if 0 < np.count_nonzero(mask) < mask.size and wanted in (ANY, find_bin(mask)):
                masks[number] = mask
    raise UnreachableRatioError(
        _describe_failure(next(spec for n, spec in enumerate(specs) if n not in masks), _MAX_TRIES)
    )


def _draw_once(
    tries: Mapping[int, tuple[MaskSpec, KeyedRng]], files: Callable[[str], bytes] | None
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (number, mask on its canvas) of each spec; strokes on canvases of one size are drawn together."""
    sketches: dict[tuple[int, int], dict[int, Sketch]] = {}
    for number, (spec, rng) in tries.items():
        family = _find_family(spec)
        if isinstance(family, MaskFamily) and family.sketch is not None:
            sketches.setdefault(spec.drawn_px, {})[number] = family.sketch(*spec.drawn_px, rng, spec.side_px)
        elif spec.file is None:
            yield number, MASKS[spec.family].draw(*spec.drawn_px, rng, spec.side_px)
        else:
            yield number, FILE_MASKS[spec.family].draw(_read_levels(spec.file, files), *spec.drawn_px, rng)
    for size, together in sketches.items():
        yield from zip(together, draw_sketches(*size, list(together.values())), strict=True)


def _find_family(spec: MaskSpec) -> MaskFamily | FileMaskFamily:
    """Family of the spec; raises UsageError where this version of Lacuna does not have it."""
    known: Mapping[str, MaskFamily | FileMaskFamily] = MASKS if spec.file is None else FILE_MASKS
    family = known.get(spec.family)
    if family is None or family.version != spec.version:
        raise UsageError(
            f"unknown {'mask family' if spec.file is None else 'family of mask files'} {spec.family!r} of version "
            f"{spec.version}: use one of {', '.join(f'{name} {f.version}' for name, f in known.items())}"
        )
    return family


def _describe_failure(spec: MaskSpec, num_tries: int) -> str:
    wanted, advice = ("", "") if spec.bin == ANY else (f" or not in {spec.bin}", " or another bin")
    return (
        f"no mask follows {spec.line()!r}: {num_tries} came out empty or full{wanted}. "
        f"Use {'another file' if spec.file else 'a larger canvas'}{advice}"
    )


def _read_levels(file: MaskFile, files: Callable[[str], bytes] | None) -> NDArray[np.uint8]:
    """Gray levels HxW of the file; raises CorruptDataError where its digest is not the spec's."""
    if files is None:
        raise UsageError(f"the mask is made of the file {file.name}: give the folder of the mask files")
    data = files(file.name)
    if (found := sha256_hex(data)) != file.sha256:
        raise CorruptDataError(
            f"{file.name} has SHA-256 {found}, its mask spec says {file.sha256}: restore the file of the spec"
        )
    return read_gray(data, file.name)


def parse_mask_spec(line: str) -> MaskSpec:
    """Spec of a line; raises UsageError naming the line and the form it should have."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise UsageError(
            f"not a mask spec: {line!r}. Write 'FAMILY VERSION drawn=HxW HxW BIN SEED/PATH', with scaled= in place of "
            f"drawn= or file=NAME sha256=DIGEST after it. BIN is {ANY} or one of {', '.join(BINS)}"
        )
    family, version, canvas, drawn_h, drawn_w, name, digest, height, width, wanted, path = match.groups()
    drawn, size = (int(drawn_h), int(drawn_w)), (int(height), int(width))
    file = MaskFile(name, digest) if name else None
    return MaskSpec(family, int(version), drawn, size, path, wanted, canvas == "scaled", file)


def fit_mask_spec(spec: MaskSpec, height: int, width: int) -> MaskSpec:
    """Spec of the same seed path and bin for another height and width; the spec itself at its own size.

    Lengths keep their share of the shorter side, so holes of drawn families keep their share of the picture. Raises
    UsageError for a mask that is made of a file, which cannot be drawn at another size.
    """
    if spec.size_px == (height, width):
        return spec
    if spec.file is not None:
        raise UsageError(f"the mask {spec.line()!r} is made of a file and cannot be drawn at {width}x{height} px")
    short, longest, side = min(height, width), max(height, width), min(spec.drawn_px)
    is_scaled = spec.side_px == side
    # Draw large photos at their own size, so that borders are sharp, and small ones where lengths are whole pixels.
    grown = max(side, short * min(longest, _MAX_CANVAS_PX) // longest) if is_scaled else side
    canvas_height, canvas_width = (min(length * grown // short, 2 * _MAX_CANVAS_PX) for length in (height, width))
    return replace(spec, drawn_px=(canvas_height, canvas_width), size_px=(height, width), scaled=is_scaled)


def make_mask_spec(
    family: str, drawn_px: int, size_px: int, *path: int | str, bin: str = ANY, scaled: bool = False
) -> MaskSpec:
    """Spec of a square mask of the family's present version; `path` is the seed path, joined by slashes.

    Raises UsageError for an unknown family, and for a bin that its masks of that size never or hardly ever reach.
    """
    if family not in MASKS:
        raise UsageError(f"unknown mask family {family!r}: use one of {', '.join(MASKS)}")
    if bin != ANY:
        _refuse_unreachable(family, drawn_px, size_px, scaled, bin)
    canvas, size = (drawn_px, drawn_px), (size_px, size_px)
    return MaskSpec(family, MASKS[family].version, canvas, size, "/".join(map(str, path)), bin, scaled)


def make_file_mask_spec(
    family: str, name: str, data: bytes, drawn_px: int, size_px: int, *path: int | str, bin: str = ANY
) -> MaskSpec:
    """Spec of a square mask made of the file of that name with these bytes; drawn once as a check.

    Raises UsageError for an unknown family, an impossible name, or a file that is not a mask of that family;
    UnreachableRatioError for one that makes no mask of that bin.
    """
    if family not in FILE_MASKS:
        raise UsageError(f"unknown family of mask files {family!r}: use one of {', '.join(FILE_MASKS)}")
    if re.fullmatch("[!-~]+", name) is None:
        raise UsageError(f"the mask file's name is {name!r}: use printable ASCII without spaces")
    refuse_odd_file(read_gray(data, name), FILE_MASKS[family].hole, name)
    file, version = MaskFile(name, sha256_hex(data)), FILE_MASKS[family].version
    canvas, size = (drawn_px, drawn_px), (size_px, size_px)
    spec = MaskSpec(family, version, canvas, size, "/".join(map(str, path)), bin, file=file)
    spec.draw(lambda _: data)
    return spec


@lru_cache(maxsize=64)
def measure_bin_shares(family: str, drawn_px: int, size_px: int, scaled: bool = False) -> Mapping[str, float]:
    """Share of the family's masks in every bin, measured on 1,000 fixed ones; empty and full masks do not count."""
    counts = dict.fromkeys(BINS, 0)
    for number in range(_PROBES):
        mask = make_mask_spec(family, drawn_px, size_px, "shares", number, scaled=scaled).draw()
        counts[find_bin(mask)] += 1
    return {name: count / _PROBES for name, count in counts.items()}


def _refuse_unreachable(family: str, drawn_px: int, size_px: int, scaled: bool, wanted: str) -> None:
    if wanted not in BINS:
        raise UsageError(f"unknown hole-ratio bin {wanted!r}: use one of {ANY}, {', '.join(BINS)}")
    shares = measure_bin_shares(family, drawn_px, size_px, scaled)
    if shares[wanted] < _LEAST_SHARE:
        reached = ", ".join(name for name, share in shares.items() if share >= _LEAST_SHARE)
        raise UsageError(
            f"only {shares[wanted]:.1%} of the {family} masks of {size_px}x{size_px}, drawn at {drawn_px}x{drawn_px}, "
            f"have a hole ratio in {wanted}: at least {_LEAST_SHARE:.0%} must. Use another family or one of {reached}"
        )
