"""The whole of `lacuna shard` on CelebA's folder beside loops of the peers over the same files, in files a second.

`LACUNA_DATA=DIR python -m tests.benchmarks.builds`: all in the same run, files in the page cache. Ours lists, digests,
settles names and duplicates, checks headers, and writes tar, index and tables, with two reads of every file; the loops
read once, write a tar and check nothing. What is compared is processor time of one core, all steps in this process.
"""

import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import webdataset as wds
from PIL import Image

from infra.cluster import connect_ray, count_cores
from pipelines.data.build.dedup import find_duplicates, mark_duplicates, resolve_keys
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.build.scan import list_source, scan_files
from pipelines.data.build.timing import BuildStats
from pipelines.data.build.write_shard import write_shard
from pipelines.data.commit.workspace import Layout, Plan
from pipelines.data.config import DatasetConfig

ROOT = Path(os.environ.get("LACUNA_DATA", "data")) / "celeba" / "img_align_celeba"
SIZE_PX = 128
TURNS = 7
KEEP = DatasetConfig("folder", shard_bytes=2 << 20, decode_check=False)
RECIPES = {
    "keep bytes": KEEP,
    "keep bytes, decoded once": DatasetConfig("folder", shard_bytes=2 << 20),
    "resize": DatasetConfig("folder", shard_bytes=2 << 20, resize="centre-square", size_px=SIZE_PX, encode="jpeg"),
}


STEPS: dict[str, tuple[Callable[..., object], Callable[[Layout], int]]] = {
    "scanning": (scan_files, lambda layout: layout.num_scans),
    "naming": (resolve_keys, lambda layout: layout.num_key_buckets),
    "comparing": (find_duplicates, lambda layout: layout.num_digest_buckets),
    "marking": (mark_duplicates, lambda layout: layout.num_key_buckets),
    "sharding": (lambda p, y, n: write_shard(p, y, "train", n), lambda layout: layout.num_shards["train"]),
}


def by_tasks(name: str, out: str, count: int) -> None:
    """A line for the best of three builds on the cluster, by the clock on the wall."""
    best = (float("inf"), BuildStats())
    for number in range(3):
        effort, started = BuildStats(), time.perf_counter()
        build_dataset(Plan(str(ROOT), f"{out}/{name}-{number}", RECIPES[name], 0), lambda *_: None, effort)
        best = min(best, (time.perf_counter() - started, effort), key=lambda b: b[0])
    summary = best[1].told(best[0])
    share = f"share of limit {summary['share_of_limit']:.0%}, most goes into {summary['bottleneck']}"
    print(f"build      {name:25} {count / best[0]:6.0f} files/s on {count_cores()} cores; {share}")


def beside(name: str, out: str, files: list[Path], encode: Callable[[Path], bytes]) -> float:
    """Two lines, all steps in this process and the peer's loop; returns the ratio of the best of some turns of each.

    They take turns, for the machine has others to serve; both fill one tar.
    """
    best: dict[str, float] = {}
    alone, recipe = float("inf"), replace(RECIPES[name], shard_bytes=DatasetConfig("folder").shard_bytes)
    for turn in range(TURNS):
        spent = step_seconds(Plan(str(ROOT), f"{out}/{name}-alone-{turn}", recipe, 0))
        best = min(best or spent, spent, key=lambda s: sum(s.values()))
        started = time.process_time()
        loop(encode, files, Path(out) / "peer.tar")
        alone = min(alone, time.process_time() - started)
    parts = ", ".join(f"{what} {seconds / len(files) * 1e6:.0f}" for what, seconds in best.items())
    own = sum(best.values())
    print(f"steps      {name:25} {len(files) / own:6.0f} files/s a core, us a file: {parts}")
    print(f"peer       {f'loop for {name}':25} {len(files) / alone:6.0f} files/s a core")
    return alone / own


def step_seconds(plan: Plan) -> dict[str, float]:
    """Processor seconds of each step of a build."""
    started = time.process_time()
    layout = list_source(plan)
    spent = {"listing": time.process_time() - started}
    for what, (step, count) in STEPS.items():
        started = time.process_time()
        for number in range(count(layout)):
            step(plan, layout, number)
        spent[what] = time.process_time() - started
    return spent


def loop(encode: Callable[[Path], bytes], files: list[Path], target: Path) -> None:
    """A default TarWriter over the files; nothing is checked."""
    with target.open("wb") as stream:
        writer = wds.TarWriter(stream)
        for path in files:
            note = json.dumps({"source": path.name}).encode()
            writer.write({"__key__": path.stem, "jpg": encode(path), "json": note})
        writer.close()


def by_pillow(path: Path) -> bytes:
    """Open, convert, middle square, bicubic, JPEG 95 in 4:4:4 as ours."""
    image = Image.open(path).convert("RGB")
    side, sink = min(image.size), io.BytesIO()
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    image.resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC, box).save(sink, "JPEG", quality=95, subsampling=0)
    return sink.getvalue()


def by_ray_data(files: list[Path], out: str) -> None:
    """Ray Data's writer, the bytes given."""
    import ray

    rows: list[dict[str, Any]] = [{"__key__": path.stem, "jpg": path.read_bytes()} for path in files]
    ray.data.from_items(rows, override_num_blocks=16).write_webdataset(f"{out}/ray", encoder=None)


def by_clock(name: str, work: Callable[[], object], count: int) -> None:
    """A line for the best of three by the clock on the wall."""
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    print(f"peer       {name:25} {count / best:6.0f} files/s")


def main() -> None:
    """Builds, peers, ratios."""
    files = sorted(ROOT.glob("*.jpg"))
    count = len(files)
    ratios: dict[str, tuple[float, float | None]] = {}
    with tempfile.TemporaryDirectory() as out:
        ratios["keep bytes / TarWriter"] = beside("keep bytes", out, files, Path.read_bytes), 1.1
        ratios["decoded once / TarWriter"] = beside("keep bytes, decoded once", out, files, Path.read_bytes), None
        ratios["resize / Pillow and TarWriter"] = beside("resize", out, files, by_pillow), 2.5
        with connect_ray():
            for name in RECIPES:
                by_tasks(name, out, count)
            by_clock("Ray Data, bytes given", partial(by_ray_data, files, out), count)
    for name, (ratio, target) in ratios.items():
        print(f"ratio      {name:30} {ratio:6.2f}x" + (f" (target {target}x)" if target else ""))


if __name__ == "__main__":
    main()
