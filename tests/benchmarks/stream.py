"""Reading shards into batches beside webdataset, in samples a second of one core, all in the same run.

`python -m tests.benchmarks.stream`: photos of 256x256 at JPEG quality 95 with the statistics of natural ones, in the
page cache, processor time, the best of some passes. The peer reads the same shards, decodes and stacks.
"""

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import simplejpeg
import torch
import webdataset as wds

from infra import storage
from infra.cluster import connect_ray
from infra.world import World
from pipelines.data.build.benchmark import make_natural_photo
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.data.config import DatasetConfig
from pipelines.manifest import Dataset
from pipelines.stream.batching import Stream
from pipelines.stream.config import StreamConfig, Transform

Work = Callable[[], None]
NUM_PHOTOS, BATCH, PASSES = 1536, 32, 7
PLAIN = StreamConfig(size_px=256, augment=(), masks=())
CROPPED = replace(
    PLAIN,
    size_px=224,
    resize_px=256,
    augment=(Transform("RandomCrop", {"height": 224, "width": 224}), Transform("HorizontalFlip")),
    masks=("freeform",),
    mask_canvas_px=224,
)
CONFIGS = {
    "plain": (PLAIN, 0.85),
    "crop, flip, free-form mask": (CROPPED, 0.60),
    "flip, DeepGIN's three masks": (replace(PLAIN, augment=StreamConfig.augment, masks=StreamConfig.masks), 0.0),
}


def photos(folder: Path) -> Path:
    """JPEGs of 256x256 in a folder: one picture that has no edges, shifted."""
    one = make_natural_photo(256, 256)
    folder.mkdir()
    for number in range(NUM_PHOTOS):
        shifted = np.ascontiguousarray(np.roll(one, divmod(number * 37, 256), axis=(0, 1)))
        (folder / f"{number:06d}.jpg").write_bytes(simplejpeg.encode_jpeg(shifted, 95, "RGB", "420"))
    return folder


def decoding(folder: Path) -> Work:
    """The limit: simplejpeg alone."""
    files = [path.read_bytes() for path in sorted(folder.iterdir())]

    def epoch() -> None:
        for data in files:
            simplejpeg.decode_jpeg(data, "RGB")

    return epoch


def ours(dataset: Dataset, config: StreamConfig, floats: bool = False) -> Work:
    """An epoch of batches in this process, as uint8 or, as a device would, turned to float32 in [0, 1]."""
    stream = Stream((dataset,), config, 0)

    def epoch() -> None:
        for batch in islice(stream.batches(0, BATCH, World()), NUM_PHOTOS // BATCH):
            if floats:
                batch.image.float().div_(255)

    return epoch


def peer(dataset: Dataset, decoder: str) -> Work:
    """webdataset: its own shuffle, decoding to uint8 (rgb8) or to float32 in [0, 1] (rgb), and batches."""
    urls = [storage.join(dataset.uri, shard.file) for shard in dataset.split("train")]
    pipeline = wds.WebDataset(urls, shardshuffle=False).shuffle(1000).decode(decoder).to_tuple("jpg").batched(BATCH)
    return lambda: _exhaust(pipeline)


def _exhaust(batches: Iterable[object]) -> None:
    for _ in batches:
        pass


def rates(works: dict[str, Work]) -> dict[str, float]:
    """Photos a second of each, the best of some passes in turn, so that a busy machine is one for all."""
    seconds = dict.fromkeys(works, float("inf"))
    for _ in range(PASSES):
        for name, work in works.items():
            started = time.process_time()
            work()
            seconds[name] = min(seconds[name], time.process_time() - started)
    return {name: NUM_PHOTOS / least for name, least in seconds.items()}


def main() -> None:
    """All of it, a line each."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        source = photos(Path(folder) / "photos")
        with connect_ray():
            recipe = DatasetConfig("folder", shard_bytes=8 << 20)
            dataset = build_dataset(Plan(str(source), f"{folder}/data", recipe, 0), lambda *_: None)
        streams = {name: ours(dataset, config) for name, (config, _) in CONFIGS.items()}
        peers = {decoder: peer(dataset, decoder) for decoder in ("rgb8", "rgb")}
        found = rates({"decode": decoding(source), **peers, **streams, "floats": ours(dataset, PLAIN, floats=True)})
    print(f"decode     simplejpeg alone             {found['decode']:6.0f} photos/s a core")
    for decoder in peers:
        print(f"webdataset {f'{decoder}, shuffle, batches':28} {found[decoder]:6.0f} photos/s a core")
    for name, (_, target) in CONFIGS.items():
        share = f"{found[name] / found['decode']:.0%} of decoding" + (f" (target {target:.0%})" if target else "")
        print(
            f"stream     {name:28} {found[name]:6.0f} photos/s a core: {share}, {found[name] / found['rgb8']:.2f}x rgb8"
        )
    ratio = found["floats"] / found["rgb"]
    print(f"stream     plain, then to float32       {found['floats']:6.0f} photos/s a core: {ratio:.2f}x rgb")


if __name__ == "__main__":
    main()
