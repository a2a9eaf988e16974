"""The pairs of a split: every photo with each of the masks that its recipe lines fix, in fixed chunks.

In: a dataset and a chunk number. Out: images uint8 NxSxSx3, masks NxSxS and who they are. A chunk is cut by photo
number alone, so it is the same whoever computes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.chance import Chance
from pipelines.manifest import Dataset, open_dataset
from pipelines.masks.recipe import parse_recipe
from pipelines.records import Refused, sha256_hex
from pipelines.stream.geometry import HELD_OUT, decode, squared
from pipelines.stream.reading import ShardReader, Stored, mask_plane

PHOTOS_PER_CHUNK: Final = 16


@dataclass(frozen=True)
class Pairs:
    """Photos and masks of one chunk, photo by photo."""

    keys: tuple[str, ...]
    recipes: tuple[str, ...]
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]


def num_chunks(dataset: Dataset, split: str) -> int:
    """How many chunks the split has."""
    return -(-sum(s.num_samples for s in dataset.split(split)) // PHOTOS_PER_CHUNK)


def read_chunk(uri: str, split: str, resize: str, chunk: int) -> Pairs:
    """The pairs of one chunk; raises Refused where the photos carry no masks or `resize` would turn them."""
    if resize == "polyphase":
        raise Refused(f"resize polyphase turns photos at random, for training: score with {HELD_OUT[resize]}")
    reader = _reader(uri, split)
    keys, recipes, images, masks = [], [], [], []
    for place in _places(reader.counts, chunk):
        stored = reader.read(*place)
        if not stored.note["masks"]:
            raise Refused(f"the {split} photos of {uri} carry no masks: build it with mask families in its recipe")
        drawn = list(_masks(stored))
        chance = Chance(stored.dataset, "evaluation", stored.key)
        image = squared(decode(stored.picture, stored.key), resize, drawn[0].shape[0], chance)
        keys += [stored.key] * len(drawn)
        recipes += stored.note["masks"]
        images += [image] * len(drawn)
        masks += drawn
    return Pairs(tuple(keys), tuple(recipes), np.stack(images), np.stack(masks))


def _masks(stored: Stored) -> Iterator[NDArray[np.uint8]]:
    """The photo's masks, as stored or drawn from their recipes."""
    for number, line in enumerate(stored.note["masks"]):
        picture = stored.planes.get(mask_plane(number))
        if picture is None:
            yield parse_recipe(line).draw()
        else:
            levels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
            yield (np.asarray(levels) > 127).astype(np.uint8)


def list_digest(pairs: Iterator[tuple[str, str]]) -> str:
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
