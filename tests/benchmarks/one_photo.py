"""What one photo costs on its way into a shard, beside the peers, in microseconds of processor time on one core.

`LACUNA_DATA=DIR python -m tests.benchmarks.one_photo`: best of several passes, both sides in the same run, files in the
page cache. The folders are those of the tests: `celeba`, `bsds500`, `photos`.
"""

import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import pyarrow as pa
import simplejpeg
import webdataset as wds
from isal import isal_zlib
from PIL import Image

from pipelines.checked_files import table_bytes
from pipelines.data.build.timing import Stopwatch
from pipelines.data.build.write_shard import _write_input
from pipelines.data.commit.workspace import Plan
from pipelines.data.config import DatasetConfig
from pipelines.data.image.header import Header, read_header
from pipelines.data.image.normalize import normalize_photo
from pipelines.data.image.resize import RESIZES, Resize, plan_resize
from pipelines.data.shard_tar import ShardWriter
from pipelines.manifest import TABLE_SCHEMA
from pipelines.records import sha256_hex

DATA = Path(os.environ.get("LACUNA_DATA", "data"))
KEEP = DatasetConfig("folder", decode_check=False)
KERNEL = np.array([20, 216, 20], np.float32) / 256
T = TypeVar("T")


def each(work: Callable[[T], object], items: Sequence[T], passes: int = 5) -> float:
    """Microseconds an item, the best of some passes."""

    def through() -> None:
        for item in items:
            work(item)

    return whole(through, len(items), passes)


def whole(work: Callable[[], object], count: int, passes: int = 5) -> float:
    """Microseconds for each of `count` items that the work does at once."""
    best = float("inf")
    for _ in range(passes):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best / count * 1e6


def cleaning(name: str, files: Sequence[bytes]) -> None:
    """Keeping bytes, with and without a check that decodes."""
    checked = replace(KEEP, decode_check=True)
    kept, decoded = (
        each(lambda raw: normalize_photo(raw, KEEP), files),
        each(lambda raw: normalize_photo(raw, checked), files, 2),
    )
    kilobytes = sum(map(len, files)) / len(files) / 1000
    print(f"clean      {name:9} {kilobytes:5.0f} kB: kept {kept:.1f} us, decoded once (the default) {decoded:.0f} us")


def row_of(key: str, raw: bytes) -> dict[str, Any]:
    """A settled input as the steps before hand it on."""
    nothing = dict.fromkeys(("label", "refusal", "place", "duplicate_of"))
    known = {"key": key, "path": f"{key}.jpg", "split": "train", "size_bytes": len(raw), "planes": [], "number": 0}
    return nothing | known | {"sha256": sha256_hex(raw), "crc32": isal_zlib.crc32(raw), "content_sha256": None}


def rows_of(root: Path, pattern: str) -> list[dict[str, Any]]:
    """Those of the files that fit the pattern."""
    rows = []
    for path in sorted(root.glob(pattern)):
        raw = path.read_bytes()
        rows.append(row_of(path.relative_to(root).as_posix().removesuffix(".jpg"), raw))
    return rows


def shard(name: str, root: Path, pattern: str) -> None:
    """A shard of kept photos with everything that is checked and written down, beside a loop that checks nothing."""
    rows, plan, stopwatch = rows_of(root, pattern), Plan(str(root), "unused", KEEP, 0), Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "shard.tar"

        def ours() -> None:
            with target.open("wb", buffering=1 << 20) as stream:
                writer = ShardWriter(stream)
                table = pa.Table.from_pylist([_write_input(plan, writer, row, stopwatch) for row in rows], TABLE_SCHEMA)
                writer.close({})
            table_bytes(table)

        def peer(**settings: Any) -> None:
            with target.open("wb") as stream:
                writer = wds.TarWriter(stream, **settings)
                for row in rows:
                    note = json.dumps({"key": row["key"], "source": row["path"], "label": row["label"]}).encode()
                    writer.write({"__key__": row["key"], "jpg": (root / row["path"]).read_bytes(), "json": note})
                writer.close()

        own, default, fixed = (whole(w, len(rows)) for w in (ours, peer, lambda: peer(mtime=0, encoder=False)))
    print(
        f"keep bytes {name:9} {own:.1f} us a sample; TarWriter alone {default:.1f} ({default / own:.2f}x, "
        "target 1.1x), "
        f"with fixed times {fixed:.1f} ({fixed / own:.2f}x)"
    )


def overhead() -> None:
    """What digests, CRC, note, index and row add to the bare writing of a JPEG of 30 kB and its note."""
    nowhere, files = Path(os.devnull), (DATA / "bsds500/train").glob("*.jpg")
    picture = min((path.read_bytes() for path in files), key=lambda data: abs(len(data) - 30_000))
    keys, note = [f"class/{number:06d}" for number in range(2000)], bytes(250)

    def peer(**settings: Any) -> None:
        with nowhere.open("wb") as stream:
            writer = wds.TarWriter(stream, **settings)
            for key in keys:
                writer.write({"__key__": key, "jpg": picture, "json": note})
            writer.close()

    def bare() -> None:
        header, pad = bytes(512), bytes(-len(picture) % 512)
        with nowhere.open("wb", buffering=1 << 20) as stream:
            for _ in keys:
                stream.write(b"".join((header, picture, pad)))
                stream.write(b"".join((header, note, bytes(262))))

    def ours() -> None:
        rows, stopwatch = [], Stopwatch()
        with nowhere.open("wb", buffering=1 << 20) as stream:
            writer = ShardWriter(stream)
            for row in settled:
                rows.append(_write_input(plan, writer, row, stopwatch))
            writer.close({})
        table_bytes(pa.Table.from_pylist(rows, TABLE_SCHEMA))

    with tempfile.TemporaryDirectory() as folder:
        settled, plan = [row_of(key, picture) for key in keys], Plan(folder, "unused", KEEP, 0)
        (Path(folder) / "class").mkdir()
        for key in keys:
            (Path(folder) / f"{key}.jpg").write_bytes(picture)
        reading = each(lambda key: (Path(folder) / f"{key}.jpg").read_bytes(), keys)
        step, plain, peers = (whole(w, len(keys)) for w in (ours, bare, lambda: peer(mtime=0, encoder=False)))
    print(
        f"overhead   {len(picture) / 1000:.0f} kB: bare writing {plain:.1f} us, TarWriter {peers:.1f}, reading "
        f"{reading:.1f}; all of our step {step:.1f}, so {step - plain - reading:.1f} us for everything else "
        "(target <= 45)"
    )


def bare_resize(part: Any, size: tuple[int, int], target: tuple[int, int]) -> Any:
    """The calls of OpenCV that the sizes ask for, as in `pipelines.data.image.resize`."""
    if any(side > 4 * to for side, to in zip(size, target, strict=True)):
        return cv2.resize(part, target, interpolation=cv2.INTER_AREA)
    if all(side <= to for side, to in zip(size, target, strict=True)):
        return cv2.resize(part, target, interpolation=cv2.INTER_CUBIC)
    soft = cv2.sepFilter2D(part, -1, KERNEL, KERNEL, borderType=cv2.BORDER_REPLICATE)
    if all(side <= 2 * to for side, to in zip(size, target, strict=True)):
        return cv2.resize(soft, target, interpolation=cv2.INTER_CUBIC)
    twice = cv2.resize(soft, (2 * target[0], 2 * target[1]), interpolation=cv2.INTER_CUBIC)
    return cv2.resize(twice, target, interpolation=cv2.INTER_AREA)


def bare_calls(raw: bytes, header: Header, resize: Resize, recipe: DatasetConfig) -> None:
    """The library calls of a resize and nothing else."""
    pixels = simplejpeg.decode_jpeg(raw, "RGB")
    part = pixels[resize.top : resize.top + resize.height, resize.left : resize.left + resize.width]
    small = bare_resize(part, (resize.width, resize.height), (resize.to_width, resize.to_height))
    if recipe.encode == "jpeg":
        hashlib.sha256(simplejpeg.encode_jpeg(small, 95, "RGB", "444")).digest()
        return
    settings = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    hashlib.sha256(cv2.imencode(".png", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), settings)[1].tobytes()).digest()


def by_pillow(raw: bytes, resize: Resize) -> None:
    """The same with Pillow: open, convert, crop, bicubic, JPEG 95 in 4:4:4 as ours."""
    image = Image.open(io.BytesIO(raw)).convert("RGB")
    box = (resize.left, resize.top, resize.left + resize.width, resize.top + resize.height)
    sink = io.BytesIO()
    size = (resize.to_width, resize.to_height)
    image.resize(size, Image.Resampling.BICUBIC, box).save(sink, "JPEG", quality=95, subsampling=0)
    hashlib.sha256(sink.getvalue()).digest()


def resizing(name: str, files: Sequence[bytes], policy: str, size_px: int = 256) -> None:
    """Our resize path, the sum of its library calls, and Pillow."""
    jpeg = DatasetConfig("folder", resize=policy, size_px=size_px, encode="jpeg")
    jobs = []
    for raw in files:
        header = read_header(raw)
        if isinstance(header, Header) and header.plain and header.channels == 3:
            resize = plan_resize(jpeg, header.width_px, header.height_px)
            jobs += [(raw, header, resize)] if isinstance(resize, Resize) else []
    pillow = each(lambda job: by_pillow(job[0], job[2]), jobs, 3)
    for recipe in (jpeg, replace(jpeg, scaled_decode=True), replace(jpeg, encode="png")):
        own = each(lambda job: sha256_hex(normalize_photo(job[0], recipe).picture), jobs, 3)  # type: ignore[union-attr]  # noqa: B023
        calls = each(lambda job: bare_calls(*job, recipe), jobs, 3)  # noqa: B023
        kind = f"{recipe.encode}{', scaled decode' if recipe.scaled_decode else ''}"
        print(
            f"resize     {name:9} {policy:13} {kind:20} {own:.0f} us; its calls {calls:.0f} ({calls / own:.0%}, "
            "target 85%), "
            f"Pillow to JPEG {pillow:.0f} ({pillow / own:.2f}x, target 2.5x)"
        )


def main() -> None:
    """All of it, a line each."""
    places = {"celeba": "celeba/img_align_celeba/*.jpg", "bsds500": "bsds500/*/*.jpg", "photos": "photos/**/*.jpg"}
    files = {name: [p.read_bytes() for p in sorted(DATA.glob(pattern))[:300]] for name, pattern in places.items()}
    for name, found in files.items():
        cleaning(name, found)
    overhead()
    shard("celeba", DATA / "celeba", "img_align_celeba/*.jpg")
    shard("bsds500", DATA / "bsds500", "*/*.jpg")
    resizing("celeba", files["celeba"][:100], "celeba-178", 128)
    for name in ("bsds500", "photos"):
        for policy in RESIZES:
            resizing(name, files[name][:100], policy)


if __name__ == "__main__":
    main()
