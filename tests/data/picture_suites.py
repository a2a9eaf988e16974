"""Is every photo that a dataset holds seen alike by all its readers? Used by tests, and on suites of test images."""

import io
from collections import Counter
from typing import Any

import numpy as np
import webdataset as wds
from PIL import Image

from pipelines.manifest import Dataset
from pipelines.stream.geometry import decode
from pipelines.stream.reading import ShardReader
from tests.data.building import rows_of


def unlike(dataset: Dataset) -> list[str]:
    """Keys of the photos whose pixels differ between the stream, Pillow and webdataset's own decoder."""
    by_webdataset: dict[str, Any] = {}
    for split in {shard.split for shard in dataset.shards}:
        urls = [f"{dataset.uri}/{shard.file}" for shard in dataset.shards if shard.split == split]
        for sample in wds.WebDataset(urls, shardshuffle=False).decode("rgb8"):
            (picture,) = (value for name, value in sample.items() if name in ("jpg", "png", "webp"))
            by_webdataset[sample["__key__"]] = picture
    found = []
    for split in {shard.split for shard in dataset.shards}:
        reader = ShardReader((dataset,), split)
        for shard, count in enumerate(reader.counts):
            for number in range(count):
                stored = reader.read(shard, number)
                streamed = decode(stored.picture, stored.key)
                with Image.open(io.BytesIO(stored.picture)) as image:
                    alike = np.array_equal(streamed, np.asarray(image.convert("RGB")))
                if not alike or not np.array_equal(streamed, by_webdataset[stored.key]):
                    found.append(stored.key)
    return found


def outcomes(dataset: Dataset) -> Counter[str]:
    """How many inputs came to what; of the rejected ones the first words of the reason."""
    return Counter(
        "written" if row["reason"] is None else f"{row['outcome']}: {' '.join(row['reason'].split()[:3])}"
        for row in rows_of(dataset)
    )
