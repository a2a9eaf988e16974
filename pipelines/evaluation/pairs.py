"""Pairs of a split: every photo with each of the masks of its mask specs, in fixed chunks.

In: a dataset and a chunk number. Out: images uint8 NxHxWx3, masks NxHxW, segmentation maps on request, keys and mask
specs: a whole chunk at the size of the masks, or pair by pair at another size. A chunk is cut by photo number alone, so
it is the same for any number of workers.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.decoding import Picture
from pipelines.evaluation.metrics import MIN_SIDE_PX
from pipelines.keyed_rng import KeyedRng
from pipelines.manifest import Dataset, open_dataset
from pipelines.masks.reduction import resize_nearest
from pipelines.masks.spec import UnreachableRatioError, fit_mask_spec, parse_mask_spec
from pipelines.records import UsageError, sha256_hex
from pipelines.stream.config import PLANES
from pipelines.stream.geometry import HELD_OUT, decode, decode_plane, resize_square
from pipelines.stream.reading import ShardReader, StoredSample, name_mask_plane

PHOTOS_PER_CHUNK: Final = 16
EvalSize = int | Literal["own"]
"""Side in px of the square photos, or `own`: each at its own height and width."""
DRAWN: Final = "drawn again at the photo's size, or resized where none of its bin is found"
RESIZED: Final = "made of files, resized by nearest neighbors"
_MAP: Final = PLANES["segmentation"]


@dataclass(frozen=True)
class Pairs:
    """Photos and masks of one chunk, photo by photo."""

    keys: tuple[str, ...]
    specs: tuple[str, ...]
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    maps: NDArray[np.uint8] | None = None
    """Segmentation maps NxHxWx3, colors of classes; None where they were not asked for."""

    def select(self, index: NDArray[np.int64]) -> "Pairs":
        """Pairs of these numbers."""
        keys, specs = (tuple(values[i] for i in index) for values in (self.keys, self.specs))
        maps = None if self.maps is None else self.maps[index]
        return Pairs(keys, specs, self.images[index], self.masks[index], maps)


def count_chunks(dataset: Dataset, split: str) -> int:
    """Number of chunks of the split."""
    return -(-sum(s.num_samples for s in dataset.split(split)) // PHOTOS_PER_CHUNK)


def read_chunk(uri: str, split: str, resize: str, chunk: int, with_maps: bool = False) -> Pairs:
    """Pairs of one chunk at the size of their masks; raises UsageError as `read_pairs`."""
    keys, specs, images, masks, maps = [], [], [], [], []
    for stored in _read_photos(uri, split, resize, chunk):
        drawn = [_read_mask(stored, number) for number in range(len(stored.note["masks"]))]
        size = drawn[0].shape[0]
        keys += [stored.key] * len(drawn)
        specs += stored.note["masks"]
        images += [_read_photo(stored, resize, size)] * len(drawn)
        masks += drawn
        maps += [_read_map(stored, resize, size)] * len(drawn) if with_maps else []
    return Pairs(tuple(keys), tuple(specs), np.stack(images), np.stack(masks), np.stack(maps) if with_maps else None)


def read_pairs(
    uri: str, split: str, resize: str, size: EvalSize, chunk: int, with_maps: bool = False
) -> Iterator[Pairs]:
    """Yield the pairs of one chunk one by one, at another size than that of their masks, which are fitted to it.

    Raises UsageError where the photos have no masks, `resize` would turn them, or a photo is too small for scores.
    """
    for stored in _read_photos(uri, split, resize, chunk):
        image = _read_photo(stored, resize, size)
        height, width = image.shape[:2]
        if min(height, width) < MIN_SIDE_PX:
            raise UsageError(
                f"{stored.key} is {width}x{height} px: scores need {MIN_SIDE_PX} px each way. Use another --size"
            )
        maps = _read_map(stored, resize, size)[None] if with_maps else None
        for number, line in enumerate(stored.note["masks"]):
            mask = _fit_mask(stored, number, height, width)
            yield Pairs((stored.key,), (line,), image[None], mask[None], maps)


def refuse_missing_maps(uri: str, split: str) -> None:
    """Raise UsageError where a photo of the split has no segmentation map; reads no picture."""
    reader = _open_reader(uri, split)
    places = [(shard, sample) for shard, count in enumerate(reader.counts) for sample in range(count)]
    missing = [place for place in places if f"{_MAP}.png" not in reader.list_suffixes(*place)]
    if missing:
        raise UsageError(
            f"{len(missing)} of {len(places)} {split} photos of {uri} have no segmentation map, such as "
            f"{reader.key(*missing[0])}: build a dataset of photos that have one with --planes {_MAP}"
        )


def find_mask_sources(specs: Iterable[str]) -> list[str]:
    """Ways in which masks of these lines come to another size: DRAWN, RESIZED or both."""
    return sorted({DRAWN if parse_mask_spec(line).file is None else RESIZED for line in specs})


def _read_photos(uri: str, split: str, resize: str, chunk: int) -> Iterator[StoredSample]:
    if resize == "polyphase":
        raise UsageError(f"resize polyphase turns photos at random, for training: use {HELD_OUT[resize]} for scores")
    reader = _open_reader(uri, split)
    for place in _places(reader.counts, chunk):
        stored = reader.read(*place)
        if not stored.note["masks"]:
            raise UsageError(f"the {split} photos of {uri} have no masks: build the dataset with mask families")
        yield stored


def _read_photo(stored: StoredSample, resize: str, size: EvalSize) -> Picture:
    """Photo HxWx3 at a size."""
    return _resize(decode(stored.picture, stored.key), stored, resize, size)


def _read_map(stored: StoredSample, resize: str, size: EvalSize) -> Picture:
    """Segmentation map HxWx3 of a photo at a size; gray ones have three equal channels."""
    levels = decode_plane(stored.planes[_MAP], "segmentation map", stored.key)
    colors = np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels[..., :3]
    return _resize(colors, stored, resize, size, nearest=True)


def _resize(picture: Picture, stored: StoredSample, resize: str, size: EvalSize, *, nearest: bool = False) -> Picture:
    """Picture HxWx3 as it is, or as a square; all pictures of a sample are cut alike."""
    if size == "own":
        return picture
    rng = KeyedRng(stored.dataset, "evaluation", stored.key)
    return resize_square(picture, resize, size, rng, nearest=nearest)


def _read_mask(stored: StoredSample, number: int) -> NDArray[np.uint8]:
    """Mask of this number of the photo, as stored or drawn from its spec."""
    picture = stored.planes.get(name_mask_plane(number))
    if picture is None:
        return parse_mask_spec(stored.note["masks"][number]).draw()
    levels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    return (np.asarray(levels) > 127).astype(np.uint8)


def _fit_mask(stored: StoredSample, number: int, height: int, width: int) -> NDArray[np.uint8]:
    """Mask of this number of the photo at another size: drawn again where possible, else resized."""
    line = stored.note["masks"][number]
    spec = parse_mask_spec(line)
    if spec.file is None:
        with suppress(UnreachableRatioError):  # a narrow photo may have no mask of this bin
            return fit_mask_spec(spec, height, width).draw()
    mask = resize_nearest(_read_mask(stored, number), height, width)
    if not 0 < np.count_nonzero(mask) < mask.size:
        raise UsageError(f"the mask {line!r} is empty or full at {width}x{height} px: use another --size")
    return mask


def hash_pair_list(pairs: Iterator[tuple[str, str]]) -> str:
    """SHA-256 over (key, mask spec) of all pairs in order."""
    return sha256_hex("\n".join(f"{key} {spec}" for key, spec in pairs).encode())


def _places(counts: tuple[int, ...], chunk: int) -> Iterator[tuple[int, int]]:
    """Yield (shard, sample) of the chunk's photos, shards laid end to end in their order."""
    ends = np.cumsum(counts)
    for photo in range(chunk * PHOTOS_PER_CHUNK, min((chunk + 1) * PHOTOS_PER_CHUNK, int(ends[-1]))):
        shard = int(np.searchsorted(ends, photo, side="right"))
        yield shard, photo - int(ends[shard - 1] if shard else 0)


@lru_cache(maxsize=4)
def _open_reader(uri: str, split: str) -> ShardReader:
    return ShardReader((open_dataset(uri),), split)
