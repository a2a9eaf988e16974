"""The masks that a held-out photo carries, chosen by its key alone, so that every model is scored on the same pairs.

In: a plan and a key. Out: recipe lines, and the drawn masks where the dataset is to hold them too: of mask files
always, for who scores a model need not have the files.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Final

import cv2

from infra import storage
from pipelines.data.archive.system_files import find_system_file_reason
from pipelines.data.commit.workspace import Plan
from pipelines.data.config import SPLITS, DatasetConfig
from pipelines.keyed_rng import KeyedRng
from pipelines.masks import FILE_MASKS, MASKS
from pipelines.masks.spec import ANY, MaskSpec, UnreachableRatioError, make_file_mask_spec, make_mask_spec
from pipelines.records import UsageError, sha256_hex
from pipelines.stream.reading import name_mask_plane

_MAX_FILES: Final = 1000
_PROBES: Final = 32
_PICTURES: Final = (".png", ".bmp", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")


def check_masks(recipe: DatasetConfig, mask_files: str | None) -> None:
    """Raises UsageError where a mask of the recipe cannot be made: unknown family or bin, one out of reach, no files or
    odd ones.
    """
    for split in recipe.mask_splits:
        if split not in SPLITS:
            raise UsageError(f"unknown split {split!r} in mask_splits: known are {', '.join(SPLITS)}")
    for family in recipe.masks:
        if family not in MASKS and family not in FILE_MASKS:
            raise UsageError(f"unknown mask family {family!r}: known are {', '.join([*MASKS, *FILE_MASKS])}")
        for wanted in recipe.mask_bins if family in MASKS else ():
            make_mask_spec(family, recipe.mask_canvas_px, recipe.mask_size_px, bin=wanted, scaled=recipe.mask_scaled)
    if needs_files(recipe) and mask_files is None:
        raise UsageError(f"masks {', '.join(recipe.masks)} are made of files: give their folder with --mask-files")
    if needs_files(recipe) and hash_mask_files(str(mask_files)) != recipe.mask_files_sha256:
        raise UsageError(f"{mask_files} is not the folder of mask files of this dataset: its list of names is another")
    if needs_files(recipe):
        _probe(recipe, str(mask_files))


def _probe(recipe: DatasetConfig, uri: str) -> None:
    """Raises UsageError for a file that is no mask of its family: some are looked at, and all of no picture's name."""
    names = [name for name, _ in _files(uri)]
    some = {*names[:: -(-len(names) // _PROBES)], *(n for n in names if not n.lower().endswith(_PICTURES))}
    for family in (family for family in recipe.masks if family in FILE_MASKS):
        for name in sorted(some):
            with suppress(UnreachableRatioError):
                data = storage.read_below(uri, name)
                make_file_mask_spec(family, name, data, recipe.mask_canvas_px, recipe.mask_size_px, "probe")


def needs_files(recipe: DatasetConfig) -> bool:
    """Whether some of its masks are made of files."""
    return any(family in FILE_MASKS for family in recipe.masks)


def hash_mask_files(uri: str) -> str:
    """SHA-256 over the names and sizes of the mask files in a folder; raises UsageError where there is none."""
    files = _files(uri)
    if not files:
        raise UsageError(f"no mask files at {uri}")
    return sha256_hex("".join(f"{size} {name}\n" for name, size in files).encode())


@lru_cache(maxsize=2)
def _files(uri: str) -> tuple[tuple[str, int], ...]:
    """Names and sizes, each folder's own names in byte order, files and folders among each other."""
    files = storage.list_files(uri) if storage.exists(uri) else ()
    files = (file for file in files if find_system_file_reason(file[0]) is None)
    return tuple(sorted(files, key=lambda file: os.fsencode(file[0]).split(b"/")))


def fixed_masks(plan: Plan, key: str) -> tuple[list[str], dict[str, bytes]]:
    """Recipe lines of the photo's masks, and the members of those that are stored as pictures: `mask.png`, `mask2.png`.

    So many of each family and hole-ratio bin. A picture has 1 bit a pixel, white where the hole is.
    """
    recipes = list(_recipes(plan, key))
    stored = {
        f"{name_mask_plane(number)}.png": _png(mask, str(plan.mask_files))
        for number, mask in enumerate(recipes)
        if plan.recipe.mask_pixels or mask.file
    }
    return [mask.line() for mask in recipes], stored


def _recipes(plan: Plan, key: str) -> Iterator[MaskSpec]:
    recipe = plan.recipe
    for number in range(recipe.masks_per_family):
        for family in recipe.masks:
            for wanted in recipe.mask_bins:
                path = (plan.seed, "mask", recipe.source, key, number, *(() if wanted == ANY else (wanted,)))
                sizes = recipe.mask_canvas_px, recipe.mask_size_px
                if family in MASKS:
                    yield make_mask_spec(family, *sizes, *path, bin=wanted, scaled=recipe.mask_scaled)
                else:
                    yield _of_a_file(plan, family, wanted, path)


def _of_a_file(plan: Plan, family: str, wanted: str, path: tuple[int | str, ...]) -> MaskSpec:
    """A mask made of the first file, by chance, that reaches the bin."""
    uri, recipe, chance = str(plan.mask_files), plan.recipe, KeyedRng("mask file", family, *path)
    files = _files(uri)
    for _ in range(_MAX_FILES):
        name = files[chance.integer(0, len(files) - 1)][0]
        data = storage.read_below(uri, name)
        try:
            return make_file_mask_spec(
                family, name, data, recipe.mask_canvas_px, recipe.mask_size_px, *path, bin=wanted
            )
        except UnreachableRatioError as fault:
            refusal = fault
    raise UsageError(f"none of {_MAX_FILES} files of {uri} makes a {family} mask of the bin {wanted}: {refusal}")


def _png(mask: MaskSpec, files: str) -> bytes:
    drawn = mask.draw(lambda name: storage.read_below(files, name))
    return bytes(cv2.imencode(".png", drawn * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1])
