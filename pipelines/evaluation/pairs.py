"""The pairs of a split: every photo with each of the masks that its recipe lines fix, in fixed chunks.

In: a dataset and a chunk number. Out: images uint8 NxHxWx3, masks NxHxW and who they are: a whole chunk at the size of
the masks, or pair by pair at another size. A chunk is cut by photo number alone, so it is the same whoever computes it.
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
from pipelines.stream.geometry import HELD_OUT, decode, resize_square
from pipelines.stream.reading import ShardReader, StoredSample, name_mask_plane

PHOTOS_PER_CHUNK: Final = 16
EvalSize = int | Literal["own"]
"""Side in px to which photos come as squares, or `own`: each at its own height and width."""
DRAWN: Final = "drawn again at the photo's size, or resized where none of its bin is found"
RESIZED: Final = "made of files, resized by nearest neighbors"


@dataclass(frozen=True)
class Pairs:
    """Photos and masks of one chunk, photo by photo."""

    keys: tuple[str, ...]
    recipes: tuple[str, ...]
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]


def count_chunks(dataset: Dataset, split: str) -> int:
    """How many chunks the split has."""
    return -(-sum(s.num_samples for s in dataset.split(split)) // PHOTOS_PER_CHUNK)


def read_chunk(uri: str, split: str, resize: str, chunk: int) -> Pairs:
    """The pairs of one chunk at the size of their masks; raises UsageError as `read_pairs`."""
    keys, recipes, images, masks = [], [], [], []
    for stored in _read_photos(uri, split, resize, chunk):
        drawn = [_mask(stored, number) for number in range(len(stored.note["masks"]))]
        image = _square(stored, resize, drawn[0].shape[0])
        keys += [stored.key] * len(drawn)
        recipes += stored.note["masks"]
        images += [image] * len(drawn)
        masks += drawn
    return Pairs(tuple(keys), tuple(recipes), np.stack(images), np.stack(masks))


def read_pairs(uri: str, split: str, resize: str, size: EvalSize, chunk: int) -> Iterator[Pairs]:
    """Yield the pairs of one chunk one by one, at another size than that of their masks, which are fitted to it.

    Raises UsageError where the photos carry no masks, `resize` would turn them, or a photo is too small to be scored.
    """
    for stored in _read_photos(uri, split, resize, chunk):
        image = decode(stored.picture, stored.key) if size == "own" else _square(stored, resize, size)
        height, width = image.shape[:2]
        if min(height, width) < MIN_SIDE_PX:
            raise UsageError(
                f"{stored.key} is {width}x{height} px: scores need {MIN_SIDE_PX} px each way; name another --size"
            )
        for number, line in enumerate(stored.note["masks"]):
            mask = _fitted_mask(stored, number, height, width)
            yield Pairs((stored.key,), (line,), image[None], mask[None])


def find_mask_sources(recipes: Iterable[str]) -> list[str]:
    """How masks of these lines come to another size: DRAWN, RESIZED or both."""
    return sorted({DRAWN if parse_mask_spec(line).file is None else RESIZED for line in recipes})


def _read_photos(uri: str, split: str, resize: str, chunk: int) -> Iterator[StoredSample]:
    if resize == "polyphase":
        raise UsageError(f"resize polyphase turns photos at random, for training: score with {HELD_OUT[resize]}")
    reader = _reader(uri, split)
    for place in _places(reader.counts, chunk):
        stored = reader.read(*place)
        if not stored.note["masks"]:
            raise UsageError(f"the {split} photos of {uri} carry no masks: build it with mask families in its recipe")
        yield stored


def _square(stored: StoredSample, resize: str, size_px: int) -> Picture:
    chance = KeyedRng(stored.dataset, "evaluation", stored.key)
    return resize_square(decode(stored.picture, stored.key), resize, size_px, chance)


def _mask(stored: StoredSample, number: int) -> NDArray[np.uint8]:
    """The photo's mask of this number, as stored or drawn from its recipe."""
    picture = stored.planes.get(name_mask_plane(number))
    if picture is None:
        return parse_mask_spec(stored.note["masks"][number]).draw()
    levels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    return (np.asarray(levels) > 127).astype(np.uint8)


def _fitted_mask(stored: StoredSample, number: int, height: int, width: int) -> NDArray[np.uint8]:
    """The photo's mask of this number at another size: drawn again, or resized where that cannot be."""
    line = stored.note["masks"][number]
    recipe = parse_mask_spec(line)
    if recipe.file is None:
        with suppress(UnreachableRatioError):  # a narrow photo may have no mask of this bin
            return fit_mask_spec(recipe, height, width).draw()
    mask = resize_nearest(_mask(stored, number), height, width)
    if not 0 < np.count_nonzero(mask) < mask.size:
        raise UsageError(f"the mask {line!r} is empty or full at {width}x{height} px: name another --size")
    return mask


def hash_pair_list(pairs: Iterator[tuple[str, str]]) -> str:
    """SHA-256 over (key, mask recipe) of all pairs in order: two scores speak of the same pairs or they do not."""
    return sha256_hex("\n".join(f"{key} {recipe}" for key, recipe in pairs).encode())


def _places(counts: tuple[int, ...], chunk: int) -> Iterator[tuple[int, int]]:
    """The (shard, sample) places of the chunk's photos, shards laid end to end in their order."""
    ends = np.cumsum(counts)
    for photo in range(chunk * PHOTOS_PER_CHUNK, min((chunk + 1) * PHOTOS_PER_CHUNK, int(ends[-1]))):
        shard = int(np.searchsorted(ends, photo, side="right"))
        yield shard, photo - int(ends[shard - 1] if shard else 0)


@lru_cache(maxsize=4)
def _reader(uri: str, split: str) -> ShardReader:
    return ShardReader((open_dataset(uri),), split)
