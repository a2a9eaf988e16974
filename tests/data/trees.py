"""Small trees of every dataset, as folders and packed in every way: a file's bytes say which path it has."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fsspec

from infra import storage
from pipelines.data.archive.read import read_photo
from pipelines.data.sources import DATASETS
from pipelines.records import Absent, Photo

Files = dict[str, bytes]

PLACES_CLASSES = b"/a/airfield 0\n/b/bow_window/indoor 1\n/z/zen_garden 2"


def content(path: str, size: int = 3000) -> bytes:
    """Bytes that name their path, and that deflate well."""
    return (path.encode("utf-8", "surrogateescape") + b"|" * size)[:size]


def files(*paths: str) -> Files:
    """The paths with contents of different lengths, one of them empty."""
    return {path: content(path, 700 * number) for number, path in enumerate(paths)}


def _places(train: str, val: str, test: str) -> Files:
    photos = files(f"{train}/a/airfield/00000001.jpg", f"{train}/b/bow_window/indoor/00000002.jpg")
    photos |= files(f"{val}/Places365_val_00000001.jpg", f"{val}/stranger.jpg", f"{test}/Places365_test_00000009.jpg")
    return photos | {
        "categories_places365.txt": PLACES_CLASSES,
        "places365_train_standard.txt": b"/a/airfield/00000001.jpg 0\n/b/bow_window/indoor/00000002.jpg 1\n/z/3.jpg 2",
        "places365_val.txt": b"Places365_val_00000001.jpg 2\nPlaces365_val_00000002.jpg 1\n",
        "places365_test.txt": b"Places365_test_00000009.jpg",
    }


ADE = "ADE20K_2016_07_26/images"
TREES: dict[str, Files] = {
    "ade20k-aim": files(
        f"{ADE}/training/a/abbey/ADE_train_00000001.jpg",
        f"{ADE}/training/a/abbey/ADE_train_00000001_seg.png",
        f"{ADE}/training/a/abbey/ADE_train_00000001_parts_1.png",
        f"{ADE}/training/a/abbey/ADE_train_00000001_atr.txt",
        f"{ADE}/training/b/bakery/shop/ADE_train_00000002.jpg",
        f"{ADE}/validation/z/zoo/ADE_val_00000001.jpg",
        f"{ADE}/validation/z/zoo/ADE_val_00000001_seg.png",
    )
    | {"new_image_names.txt": b"ADE_train_00000001.jpg\nADE_train_00000007.jpg\nADE_train_00000001.jpg"},
    "celeba": files(*(f"img_align_celeba/{n:06d}.jpg" for n in (1, 2, 3, 7)))
    | {"list_eval_partition.txt": b"000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n000004.jpg 0\n"},
    "ffhq": files(*(f"images1024x1024/{n // 1000 * 1000:05d}/{n:05d}.png" for n in (0, 59_999, 60_000, 69_999))),
    "folder": files("loose.jpg", "cats/1.jpg", "dogs/big/2.png", "dogs/ünïcode name.png", f"deep/{'d' * 120}/x.jpg"),
    "oxford-buildings": files(*(f"oxbuild_images/{name}_000001.jpg" for name in ("all_souls", "balliol", "oxford"))),
    "paris-streetview": files(
        "paris_train_original/48.842502_2.344968_90_-004.JPG",
        "paris_eval/paris_eval_gt/001_im.png",
        "paris_eval/paris_eval_corrupted/001_im.png",
    ),
    "places2-128": files("train/a/airfield/00000001.jpg", "train/b/bow_window/indoor/2.jpg", "val/00000002.jpg")
    | {
        "categories_places365.txt": PLACES_CLASSES,
        "places2_val_labels.txt": b"val/00000002.jpg 1\nval/00000003.jpg 0\n",
    },
    "places365-easy": files(
        "places365_standard/train/airfield/00000001.jpg",
        "places365_standard/val/bow_window-indoor/Places365_val_00000435.jpg",
        "places365_standard/train.txt",
    )
    | {"categories_places365.txt": PLACES_CLASSES},
    "places365-large": _places("data_large", "val_large", "test_large"),
    "places365-small": _places("data_256", "val_256", "test_256"),
}


def write_files(root: Path, tree: Files) -> Path:
    """The tree as a folder."""
    for path, data in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def tar_bytes(tree: Mapping[str, bytes], mode: str = "w", **options: Any) -> bytes:
    """The tree as a tar, with folders as members of their own and names that begin with `./`, as tar makes them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, **options) as tar:  # type: ignore[call-overload]
        for folder in sorted({str(Path(path).parent) for path in tree}):
            info = tarfile.TarInfo(f"./{folder}")
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
        for path, data in tree.items():
            info = tarfile.TarInfo(f"./{path}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def zip_bytes(tree: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED, zip64: bool = False) -> bytes:
    """The tree as a zip, with a folder as a member; `zip64` writes the wide fields although nothing needs them."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("some folder/", b"")
        for path, data in tree.items():
            info = zipfile.ZipInfo(path)
            info.compress_type = method
            with archive.open(info, "w", force_zip64=zip64) as member:
                member.write(data)
    return stream.getvalue()


PACKERS: dict[str, Callable[[Files], bytes]] = {
    ".tar": tar_bytes,
    ".tgz": lambda tree: tar_bytes(tree, "w:gz"),
    ".tar.gz": lambda tree: tar_bytes(tree, "w:gz", format=tarfile.USTAR_FORMAT),
    ".tar.bz2": lambda tree: tar_bytes(tree, "w:bz2", format=tarfile.GNU_FORMAT),
    ".tar.xz": lambda tree: tar_bytes(tree, "w:xz", format=tarfile.PAX_FORMAT),
    ".zip": zip_bytes,
}


def put(uri: str, data: bytes) -> str:
    """Writes a file on whatever file system; returns its URI."""
    with fsspec.open(uri, "wb") as stream:
        stream.write(data)
    return uri


def listed(source: str, root: Path | str, splits: str | None = None, spill_to: str | None = None) -> dict[str, Photo]:
    """Path -> photo of everything that the source lists."""
    spill_to = spill_to or f"{storage.to_absolute(str(root)).rstrip('/')}-spilled"
    photos = [p for p in DATASETS[source].listed(str(root), splits, spill_to) if isinstance(p, Photo)]
    assert len({p.path for p in photos}) == len(photos)
    return {p.path: p for p in photos}


def absent(source: str, root: Path | str, splits: str | None = None) -> list[str]:
    """What the source says is not there."""
    found = DATASETS[source].listed(str(root), splits, f"{root}-spilled")
    return [item.path for item in found if isinstance(item, Absent)]


def account(source: str, root: Path | str, splits: str | None, spill_to: str) -> dict[str, Any]:
    """All that the source says of a tree, with all bytes, but not where they lie."""
    said: dict[str, Any] = {}
    for item in DATASETS[source].listed(str(root), splits, spill_to):
        if isinstance(item, Absent):
            said[item.path] = "absent"
            continue
        assert item.path not in said
        data = None if item.refusal else read_photo(str(root), item)
        planes = [(plane.name, plane.path, read_photo(str(root), plane)) for plane in item.planes]
        said[item.path] = (item.split, item.label, item.size_bytes, item.refusal, data, planes)
    return said
