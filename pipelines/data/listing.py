"""First two steps of a build: what files there are, and what each of them is called and contains.

The listing is streamed into chunk files; a scan task reads the files of one chunk, digests them, and spreads what it
found over buckets by key, for the steps that settle names and write shards.
"""

import hashlib
from collections import defaultdict
from dataclasses import replace
from itertools import islice
from typing import Any, Final

import pyarrow as pa

from infra import storage
from pipelines.chance import digest_of
from pipelines.data.sources import DATASETS
from pipelines.data.workspace import Layout, Plan, read_rows, share_of, write_rows
from pipelines.records import Photo, Refused, make_key, sha256_hex

PHOTOS_PER_CHUNK: Final = 1000
_PHOTOS_PER_DIGEST_BUCKET: Final = 250_000

_PHOTO = pa.schema(
    [
        ("path", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("size_bytes", pa.int64()),
        ("refusal", pa.string()),
    ]
)
SCANNED = pa.schema(
    [
        ("key", pa.string()),
        ("path", pa.string()),
        ("split", pa.string()),
        ("number", pa.int64()),
        ("label", pa.string()),
        ("sha256", pa.string()),
        ("reason", pa.string()),
    ]
)


def list_source(plan: Plan) -> Layout:
    """Lists the source into chunk files, once; raises Refused where there is no photo."""
    return Layout(**plan.once("listed", lambda: _list_chunks(plan)))


def _list_chunks(plan: Plan) -> dict[str, Any]:
    bytes_of_split: dict[str, int] = defaultdict(int)
    num_chunks = num_files = 0
    listed = DATASETS[plan.recipe.source].listed(plan.root, None, plan.at("spilled"))
    photos = (photo for photo in listed if isinstance(photo, Photo))
    while chunk := [_placed(photo, plan) for photo in islice(photos, PHOTOS_PER_CHUNK)]:
        for photo in chunk:
            bytes_of_split[photo.split] += photo.size_bytes
        write_rows(plan.at("listing", f"{num_chunks:06d}.parquet"), [vars(p) for p in chunk], _PHOTO)
        num_chunks, num_files = num_chunks + 1, num_files + len(chunk)
    if not num_files:
        raise Refused(f"no files under {plan.root}: --root must be a folder in the layout of {plan.recipe.source!r}")
    return {
        "num_files": num_files,
        "num_chunks": num_chunks,
        "num_shards": {s: _power_of_two(-(-n // plan.recipe.shard_bytes)) for s, n in sorted(bytes_of_split.items())},
        "num_digest_buckets": _power_of_two(num_files // _PHOTOS_PER_DIGEST_BUCKET),
    }


def _power_of_two(at_least: int) -> int:
    return 1 << max(0, at_least - 1).bit_length()


def _placed(photo: Photo, plan: Plan) -> Photo:
    """The photo in its final split: a share of train, chosen by a digest of the key, is held out for val."""
    if not _is_utf8(photo.path):
        shown = photo.path.encode("utf-8", "backslashreplace").decode()
        photo = replace(photo, path=shown, refusal="its name is not UTF-8")
    held_out = share_of(digest_of(plan.seed, "holdout", _name(photo)), 2**53) < plan.recipe.holdout * 2**53
    return replace(photo, split="val") if photo.split == "train" and held_out else photo


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(photo: Photo) -> str:
    """What the photo is placed by: its key, or its path where that makes none."""
    try:
        return make_key(photo.path)
    except ValueError:
        return photo.path


def scan_chunk(plan: Plan, layout: Layout, chunk: int) -> None:
    """Reads and digests the photos of one chunk of the listing; writes them into buckets by their keys."""

    def scan() -> dict[str, Any]:
        photos = read_rows(plan.at("listing", f"{chunk:06d}.parquet"))
        buckets: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for photo in (Photo(**row) for row in photos):
            digest = hashlib.sha256(_name(photo).encode()).digest()
            number = share_of(digest, layout.num_shards[photo.split])
            buckets[share_of(digest, layout.num_key_buckets)].append(_scanned(photo, plan.root, number))
        for bucket, rows in sorted(buckets.items()):
            write_rows(plan.at("scanned", f"{bucket:03d}", f"{chunk:06d}.parquet"), rows, SCANNED)
        return {"num_photos": len(photos)}

    plan.once(f"scanned/{chunk:06d}", scan)


def _scanned(photo: Photo, root: str, number: int) -> dict[str, Any]:
    key, sha256, reason = None, None, photo.refusal
    try:
        key = make_key(photo.path)
        sha256 = sha256_hex(storage.read_below(root, photo.path)) if reason is None else None
    except ValueError as fault:
        reason = reason or str(fault)
    except OSError as fault:
        reason = f"cannot be read: {type(fault).__name__}"
    place = {"split": photo.split, "number": number, "label": photo.label}
    return {"key": key, "path": photo.path, **place, "sha256": sha256, "reason": reason}
