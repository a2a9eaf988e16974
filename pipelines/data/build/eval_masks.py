"""Masks of a held-out photo, chosen by its key alone, so that every model is scored on the same pairs.

In: a plan and a key. Out: lines of mask specs, and the drawn masks where the dataset stores them too. It always does so
for mask files: a score needs the dataset alone.
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


def check_masks(config: DatasetConfig, mask_files: str | None) -> None:
    """Raise UsageError for masks of the config that cannot be made.

    Causes: an unknown split, family or bin, a bin out of reach, missing mask files, and files that are no masks.
    """
    for split in config.mask_splits:
        if split not in SPLITS:
            raise UsageError(f"unknown split {split!r} in mask_splits: use one of {', '.join(SPLITS)}")
    for family in config.masks:
        if family not in MASKS and family not in FILE_MASKS:
            raise UsageError(f"unknown mask family {family!r}: use one of {', '.join([*MASKS, *FILE_MASKS])}")
        for wanted in config.mask_bins if family in MASKS else ():
            make_mask_spec(family, config.mask_canvas_px, config.mask_size_px, bin=wanted, scaled=config.mask_scaled)
    if has_file_masks(config) and mask_files is None:
        raise UsageError(f"masks {', '.join(config.masks)} are made of files: give their folder with --mask-files")
    if has_file_masks(config) and hash_mask_files(str(mask_files)) != config.mask_files_sha256:
        raise UsageError(
            f"--mask-files {mask_files} has other names or sizes than the mask files of this dataset: give those files"
        )
    if has_file_masks(config):
        _check_some_files(config, str(mask_files))


def _check_some_files(config: DatasetConfig, uri: str) -> None:
    """Raise UsageError for a file that is no mask of its family: some are read, and all without a picture's suffix."""
    names = [name for name, _ in _list_files(uri)]
    some = {*names[:: -(-len(names) // _PROBES)], *(n for n in names if not n.lower().endswith(_PICTURES))}
    for family in (family for family in config.masks if family in FILE_MASKS):
        for name in sorted(some):
            with suppress(UnreachableRatioError):
                data = storage.read_below(uri, name)
                make_file_mask_spec(family, name, data, config.mask_canvas_px, config.mask_size_px, "probe")


def has_file_masks(config: DatasetConfig) -> bool:
    """Whether some masks of the config are made of files."""
    return any(family in FILE_MASKS for family in config.masks)


def hash_mask_files(uri: str) -> str:
    """SHA-256 over the names and sizes of the mask files in a folder; raises UsageError where there are none."""
    files = _list_files(uri)
    if not files:
        raise UsageError(f"no mask files at {uri}: give the folder that holds them with --mask-files")
    return sha256_hex("".join(f"{size} {name}\n" for name, size in files).encode())


@lru_cache(maxsize=2)
def _list_files(uri: str) -> tuple[tuple[str, int], ...]:
    """Names and sizes of the mask files, in byte order of the parts of their paths."""
    files = storage.list_files(uri) if storage.exists(uri) else ()
    files = (file for file in files if find_system_file_reason(file[0]) is None)
    return tuple(sorted(files, key=lambda file: os.fsencode(file[0]).split(b"/")))


def make_eval_masks(plan: Plan, key: str) -> tuple[list[str], dict[str, bytes]]:
    """Lines of the photo's mask specs, and the members of masks that are stored as pictures: `mask.png`, `mask2.png`.

    `masks_per_family` of each family and hole-ratio bin. A picture has 1 bit per pixel, white = hole.
    """
    specs = list(_mask_specs(plan, key))
    stored = {}
    for number, mask in enumerate(specs):
        if plan.config.mask_pixels or mask.file:
            drawn = mask.draw(lambda name: storage.read_below(str(plan.mask_files), name)) * 255
            png = cv2.imencode(".png", drawn, [cv2.IMWRITE_PNG_BILEVEL, 1])[1]
            stored[f"{name_mask_plane(number)}.png"] = bytes(png)
    return [mask.line() for mask in specs], stored


def _mask_specs(plan: Plan, key: str) -> Iterator[MaskSpec]:
    config = plan.config
    for number in range(config.masks_per_family):
        for family in config.masks:
            for wanted in config.mask_bins:
                path = (plan.seed, "mask", config.source, key, number, *(() if wanted == ANY else (wanted,)))
                sizes = config.mask_canvas_px, config.mask_size_px
                if family in MASKS:
                    yield make_mask_spec(family, *sizes, *path, bin=wanted, scaled=config.mask_scaled)
                else:
                    yield _make_file_mask(plan, family, wanted, path)


def _make_file_mask(plan: Plan, family: str, wanted: str, path: tuple[int | str, ...]) -> MaskSpec:
    """Spec of a mask made of the first random file that reaches the bin; raises UsageError after 1000 files."""
    uri, config, rng = str(plan.mask_files), plan.config, KeyedRng("mask file", family, *path)
    files = _list_files(uri)
    for _ in range(_MAX_FILES):
        name = files[rng.integer(0, len(files) - 1)][0]
        data = storage.read_below(uri, name)
        try:
            return make_file_mask_spec(
                family, name, data, config.mask_canvas_px, config.mask_size_px, *path, bin=wanted
            )
        except UnreachableRatioError as fault:
            refusal = fault
    raise UsageError(
        f"no {family} mask of the bin {wanted} after {_MAX_FILES} files of {uri} ({refusal}): take another bin or files"
    )
