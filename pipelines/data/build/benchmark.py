"""Rates of this machine: the library calls that a build is made of, and reads and writes of folders and stores.

In: a number of seconds to spend, and URIs. Out: rates, with units in their names. Calls are timed in processor time of
one thread, the best of some passes, so that a busy machine gives nearly the rates of an idle one. Storage is timed by
wall clock, one request after another.
"""

import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Final

import cv2
import numpy as np
import simplejpeg
from isal import isal_zlib

from infra import storage
from pipelines.data.image.decode import ENCODERS
from pipelines.data.image.resize import Pixels
from pipelines.keyed_rng import KeyedRng
from pipelines.manifest import open_dataset
from pipelines.masks import MASKS
from pipelines.records import UsageError

LARGE_BYTES: Final = 64 << 20
SMALL_BYTES: Final = 32 << 10
_PASSES: Final = 4
_CONTRAST, _COLOR, _STEEPNESS, _QUALITY = 44, 14, 1.3, 75
"""Chosen so that 256x256 make 14 kB and 1024x768 140 kB, as photos do."""

Work = Callable[[], object]


def measure_processor_rates(seconds: float, families: tuple[str, ...]) -> dict[str, float]:
    """Rates on one core, in calls or gigabytes per second: JPEG decode, resize, encode, digests, a mask per family."""
    calls = {**_make_picture_calls(), **_make_digest_calls()}
    for family in families:
        draw = partial(MASKS[family].draw, 256, 256, KeyedRng("probe", family))
        calls[f"mask_{family.replace('-', '_')}_256_masks_per_second"] = 1.0, draw
    each = seconds / len(calls)
    return {name: amount * _measure_rate(work, each) for name, (amount, work) in calls.items()}


def _make_picture_calls() -> dict[str, tuple[float, Work]]:
    """(units per call, call) by the name of the rate."""
    small, large = make_natural_photo(256, 256), make_natural_photo(768, 1024)
    files = {size: simplejpeg.encode_jpeg(p, _QUALITY, "RGB", "420") for size, p in (("256", small), ("1024", large))}
    resize = partial(cv2.resize, large[:, 128:896], (256, 256), interpolation=cv2.INTER_AREA)
    return {
        "decode_jpeg_256x256_images_per_second": (1.0, partial(simplejpeg.decode_jpeg, files["256"], "RGB")),
        "decode_jpeg_1024x768_images_per_second": (1.0, partial(simplejpeg.decode_jpeg, files["1024"], "RGB")),
        "resize_768x768_to_256x256_images_per_second": (1.0, resize),
        "encode_png_256x256_images_per_second": (1.0, partial(ENCODERS["png"][2], small)),
        "encode_jpeg_256x256_images_per_second": (1.0, partial(ENCODERS["jpeg"][2], small)),
    }


def _make_digest_calls() -> dict[str, tuple[float, Work]]:
    block = secrets.token_bytes(SMALL_BYTES)
    return {
        "sha256_gb_per_second": (len(block) / 1e9, lambda: hashlib.sha256(block).digest()),
        "crc32_gb_per_second": (len(block) / 1e9, lambda: isal_zlib.crc32(block)),
    }


def make_natural_photo(height: int, width: int) -> Pixels:
    """Picture, uint8 HxWx3, as costly for a codec as a photo: amplitudes fall as 1/f^1.3, channels correlate."""
    noise = np.random.Generator(np.random.Philox(0)).standard_normal((3, height, width))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    falloff = np.maximum(frequency, 1 / max(height, width)) ** -_STEEPNESS
    smooth = np.fft.ifft2(np.fft.fft2(noise) * falloff).real
    light, red, blue = smooth / smooth.std(axis=(1, 2), keepdims=True)
    colors = [light * _CONTRAST + tint * _COLOR for tint in (red, -(red + blue) / 2, blue)]
    return np.ascontiguousarray(np.clip(np.stack(colors, axis=2) + 128, 0, 255).astype(np.uint8))


def measure_storage_rates(uri: str | None, seconds: float) -> dict[str, float]:
    """Rates of writing and reading large and small files at a URI, or in a temporary folder; nothing stays there.

    A file on a disk is synced and renamed, as a build does it, and read once it has left the page cache; on an object
    store both are one request. Raises UsageError where a local folder is missing.
    """
    if uri is None:
        with tempfile.TemporaryDirectory() as folder:
            return measure_storage_rates(folder, seconds)
    if storage.to_writable_folder(uri) is not None and not storage.exists(uri):
        raise UsageError(f"no folder at {uri}: create it, or give the URI of an object store with --out")
    folder = storage.join(uri, f".probe-{secrets.token_hex(6)}")
    try:
        return _measure_folder_rates(folder, seconds / 4)
    finally:
        storage.remove(folder)


def _measure_folder_rates(folder: str, each: float) -> dict[str, float]:
    large, small, numbers = storage.join(folder, "large"), secrets.token_bytes(SMALL_BYTES), count()
    data = secrets.token_bytes(LARGE_BYTES)
    write = _measure_rate(lambda: storage.publish(large, data), each, time.perf_counter)
    read = _measure_rate(lambda: _read_cold(large), each, time.perf_counter)
    writes = _measure_rate(
        lambda: storage.publish(storage.join(folder, str(next(numbers))), small), each, time.perf_counter
    )
    reads = _measure_rate(lambda: _read_cold(storage.join(folder, "0")), each, time.perf_counter)
    return {
        "out_write_gb_per_second": write * LARGE_BYTES / 1e9,
        "out_read_gb_per_second": read * LARGE_BYTES / 1e9,
        "out_32kib_writes_per_second": writes,
        "out_32kib_reads_per_second": reads,
    }


def _read_cold(uri: str) -> None:
    """Read a file; a local one from its disk and not from the page cache."""
    if (path := storage.to_local_path(uri)) is not None:
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    storage.read_bytes(uri)


def measure_dataset_rates(uri: str, seconds: float) -> dict[str, float]:
    """Rates of reading the largest shard of a dataset, whole and in ranges of 32 KiB.

    Raises UsageError where there is no dataset.
    """
    shard = max(open_dataset(uri).shards, key=lambda s: s.size_bytes)
    file, starts = storage.join(uri, shard.file), count(0, SMALL_BYTES)

    def read_next_range() -> None:
        start = next(starts) % max(1, shard.size_bytes - SMALL_BYTES)
        storage.read_range(file, start, min(start + SMALL_BYTES, shard.size_bytes))

    whole = _measure_rate(lambda: _read_cold(file), seconds / 2, time.perf_counter)
    return {
        "data_read_gb_per_second": whole * shard.size_bytes / 1e9,
        "data_32kib_reads_per_second": _measure_rate(read_next_range, seconds / 2, time.perf_counter),
    }


def _measure_rate(work: Work, seconds: float, clock: Callable[[], float] = time.thread_time) -> float:
    """Rate in calls per second, the best of some passes that share the seconds; each makes at least one call."""
    best = 0.0
    for _ in range(_PASSES):
        calls, started = 0, clock()
        while not calls or clock() - started < seconds / _PASSES:
            work()
            calls += 1
        best = max(best, calls / (clock() - started))
    return best
