"""How much memory a task of a build takes above the same Ray worker idle, for shards of several sizes.

`python -m tests.benchmarks.memory [MB ...]`: about as many megabytes of photos as the largest shard, made for the
purpose; target 100 MB whatever the size of the shard. A line for a build that keeps bytes and one for a build that
resizes them.
"""

import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import simplejpeg

from infra.cluster import connect_ray
from pipelines.data.build.benchmark import make_natural_photo
from pipelines.data.build.dedup import find_duplicates, mark_duplicates, resolve_keys
from pipelines.data.build.scan import list_source, scan_files
from pipelines.data.build.write_shard import write_shard
from pipelines.data.commit.workspace import Plan
from pipelines.data.config import DatasetConfig

TARGET_MB = 100


STEPS: dict[str, Callable[..., object]] = {
    "scan": scan_files,
    "naming": resolve_keys,
    "comparing": find_duplicates,
    "marking": mark_duplicates,
    "shard": write_shard,
}


KINDS: dict[str, dict[str, Any]] = {"kept": {}, "resized": {"resize": "short-side", "size_px": 256}}


def peak_mb(little: Path, step: str, arguments: tuple[Any, ...]) -> float:
    """Megabytes that a task needs at its height above what its worker holds after a build of a few photos."""
    with tempfile.TemporaryDirectory() as out:
        plan = replace(arguments[0], root=str(little), out=out)
        layout = list_source(plan)
        for name, warm in STEPS.items():
            warm(plan, layout, *(("train", 0) if name == "shard" else (0,)))
    return height_mb(STEPS[step], arguments)


def height_mb(task: Callable[..., object], arguments: tuple[Any, ...]) -> float:
    """Megabytes that this process needs at most during the call, above what it holds before."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status_mb("VmRSS")
    task(*arguments)
    return _status_mb("VmHWM") - before


def _status_mb(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1000


def photos(folder: Path, num_bytes: int, first: int = 0) -> Path:
    """Photos of some 33 kB, no two alike by a comment in each, numbered from the first."""
    picture = simplejpeg.encode_jpeg(make_natural_photo(400, 400), 75, "RGB", "420")
    for number in range(first, first + -(-num_bytes // len(picture))):
        note = b"%08d" % number
        path = folder / f"{number // 1000:03d}" / f"{number:08d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture[:2] + b"\xff\xfe\x00\x0a" + note + picture[2:])
    return folder


def alone(function: Callable[..., float], *arguments: Any) -> float:
    """What the function measures in a Ray worker of its own."""
    import ray  # after `connect_ray` has made it a token

    return float(ray.get(ray.remote(num_cpus=1, max_calls=1)(function).remote(*arguments)))


def measure(plan: Plan, little: Path, megabytes: int, kind: str) -> None:
    """A line for a build of shards of this size; each task in a worker of its own."""
    layout = list_source(plan)
    counts = (layout.num_scans, layout.num_key_buckets, layout.num_digest_buckets, layout.num_key_buckets)
    peaks = {}
    for step, count in zip(STEPS, counts, strict=False):
        peaks[step] = max(alone(peak_mb, little, step, (plan, layout, n)) for n in range(count))
    peaks["shard"] = alone(peak_mb, little, "shard", (plan, layout, "train", 0))
    print_peaks(f"{kind}, shards of {megabytes} MB", peaks)


def print_peaks(what: str, peaks: dict[str, float]) -> None:
    """Prints a line."""
    figures = ", ".join(f"{step} {peak:.0f}" for step, peak in peaks.items())
    print(f"memory     {what}, MB above an idle worker: {figures} (target <= {TARGET_MB})", flush=True)


def main() -> None:
    """Some lines for each size."""
    sizes = [int(word) for word in sys.argv[1:]] or [16, 256]
    with tempfile.TemporaryDirectory() as out, connect_ray():
        root, little = photos(Path(out) / "photos", max(sizes) << 20), photos(Path(out) / "little", 1 << 20)
        for megabytes in sizes:
            for kind, changes in KINDS.items():
                recipe = DatasetConfig("folder", shard_bytes=megabytes << 20, **changes)
                measure(Plan(str(root), f"{out}/{kind}{megabytes}", recipe, 0), little, megabytes, kind)
                shutil.rmtree(f"{out}/{kind}{megabytes}")


if __name__ == "__main__":
    main()
