"""How much memory a task of a build takes above the same Ray worker idle, for shards of several sizes.

`python -m tests.benchmarks.memory [MB ...]`: about as many megabytes of photos as the largest shard, made for the
purpose; target 100 MB whatever the size of the shard.
"""

import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import simplejpeg

from infra.cluster import connected
from pipelines.data.listing import list_source, scan_files
from pipelines.data.probe import natural_photo
from pipelines.data.recipe import ShardRecipe
from pipelines.data.settling import find_duplicates, mark_duplicates, settle_keys
from pipelines.data.shards import write_shard
from pipelines.data.workspace import Plan

TARGET_MB = 100


STEPS: dict[str, Callable[..., object]] = {
    "scan": scan_files,
    "naming": settle_keys,
    "comparing": find_duplicates,
    "marking": mark_duplicates,
    "shard": write_shard,
}


def peak_mb(little: Path, step: str, arguments: tuple[Any, ...]) -> float:
    """Megabytes that a task needs at its height above what its worker holds after a build of a few photos."""
    with tempfile.TemporaryDirectory() as out:
        plan = Plan(str(little), out, ShardRecipe("folder"), 0)
        layout = list_source(plan)
        for name, warm in STEPS.items():
            warm(plan, layout, *(("train", 0) if name == "shard" else (0,)))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status_mb("VmRSS")
    STEPS[step](*arguments)
    return _status_mb("VmHWM") - before


def _status_mb(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1000


def photos(folder: Path, num_bytes: int) -> Path:
    """Photos of some 33 kB, no two alike by a comment in each."""
    picture = simplejpeg.encode_jpeg(natural_photo(400, 400), 75, "RGB", "420")
    for number in range(-(-num_bytes // len(picture))):
        note = b"%08d" % number
        path = folder / f"{number // 1000:03d}" / f"{number:08d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture[:2] + b"\xff\xfe\x00\x0a" + note + picture[2:])
    return folder


def measure(root: Path, little: Path, out: str, megabytes: int) -> None:
    """A line for shards of this size; each task in a worker of its own."""
    plan = Plan(str(root), f"{out}/{megabytes}", ShardRecipe("folder", shard_bytes=megabytes << 20), 0)
    layout = list_source(plan)
    counts = (layout.num_scans, layout.num_key_buckets, layout.num_digest_buckets, layout.num_key_buckets)
    import ray  # after `connected` has made it a token

    alone, peaks = ray.remote(num_cpus=1, max_calls=1)(peak_mb), {}
    for step, count in zip(STEPS, counts, strict=False):
        peaks[step] = max(ray.get([alone.remote(little, step, (plan, layout, n)) for n in range(count)]))
    peaks["shard"] = ray.get(alone.remote(little, "shard", (plan, layout, "train", 0)))
    told = ", ".join(f"{step} {peak:.0f}" for step, peak in peaks.items())
    print(f"memory     shards of {megabytes:3} MB, MB above an idle worker: {told} (target <= {TARGET_MB})")


def main() -> None:
    """A line for each size."""
    sizes = [int(word) for word in sys.argv[1:]] or [16, 256]
    with tempfile.TemporaryDirectory() as out, connected():
        root, little = photos(Path(out) / "photos", max(sizes) << 20), photos(Path(out) / "little", 1 << 20)
        for megabytes in sizes:
            measure(root, little, out, megabytes)


if __name__ == "__main__":
    main()
