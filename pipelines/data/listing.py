"""First two steps of a build: what files there are, and what each of them is called and contains.

The listing is streamed into chunk files; a scan task reads the files of one chunk, digests them, and spreads what it
found over buckets: by shard, for the task that writes the shard, and by content, for the search of duplicates.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import pyarrow as pa

from infra import storage
from pipelines.chance import digest_of
from pipelines.data.sources import DATASETS
from pipelines.data.workspace import Layout, Plan, read_rows, write_rows
from pipelines.records import Photo, Refused, make_key, sha256_hex

PHOTOS_PER_CHUNK: Final = 1000
_PHOTOS_PER_DIGEST_BUCKET: Final = 250_000

_PHOTO = pa.schema([("path", pa.string()), ("split", pa.string()), ("label", pa.string()), ("size_bytes", pa.int64())])
_SCANNED = pa.schema(
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
_DIGEST = pa.schema([("sha256", pa.string()), ("key", pa.string()), ("path", pa.string()), ("bucket", pa.string())])


def list_source(plan: Plan) -> Layout:
    """Lists the source into chunk files, once; raises Refused where there is no photo."""
    return Layout(**plan.once("listed", lambda: _list_chunks(plan)))


def _list_chunks(plan: Plan) -> dict[str, Any]:
    bytes_of_split: dict[str, int] = defaultdict(int)
    num_chunks = num_files = 0
    photos = DATASETS[plan.recipe.source].list_photos(plan.root)
    while chunk := [_placed(photo, plan) for photo in islice(photos, PHOTOS_PER_CHUNK)]:
        for photo in chunk:
            bytes_of_split[photo.split] += photo.size_bytes
        write_rows(plan.at("listing", f"{num_chunks:06d}.parquet"), [vars(p) for p in chunk], _PHOTO)
        num_chunks, num_files = num_chunks + 1, num_files + len(chunk)
    if not num_files:
        raise Refused(f"no files under {plan.root}: --root must be a folder in the layout of {plan.recipe.source!r}")
    return {
        "num_chunks": num_chunks,
        "num_shards": {s: _power_of_two(-(-n // plan.recipe.shard_bytes)) for s, n in sorted(bytes_of_split.items())},
        "num_digest_buckets": _power_of_two(num_files // _PHOTOS_PER_DIGEST_BUCKET),
    }


def _power_of_two(at_least: int) -> int:
    return 1 << max(0, at_least - 1).bit_length()


def _placed(photo: Photo, plan: Plan) -> Photo:
    """The photo in its final split: a share of train, chosen by a digest, is held out for val."""
    held_out = int.from_bytes(digest_of(plan.seed, "holdout", photo.path)[:8], "big") < plan.recipe.holdout * 2**64
    return Photo(photo.path, "val", photo.label, photo.size_bytes) if photo.split == "train" and held_out else photo


def scan_chunk(plan: Plan, layout: Layout, chunk: int) -> None:
    """Reads and digests the photos of one chunk of the listing; writes them into their buckets."""

    def scan() -> dict[str, Any]:
        photos = read_rows([plan.at("listing", f"{chunk:06d}.parquet")])
        scanned = [_scanned(Photo(**photo), plan.root, layout) for photo in photos]
        for bucket, rows in _grouped(scanned, lambda row: layout.bucket(row["split"], row["number"])):
            write_rows(plan.at("rows", bucket, f"{chunk:06d}.parquet"), rows, _SCANNED)
        whole = [row for row in scanned if row["reason"] is None]
        for prefix, rows in _grouped(whole, lambda row: digest_bucket(row["sha256"], layout)):
            digests = [row | {"bucket": layout.bucket(row["split"], row["number"])} for row in rows]
            write_rows(plan.at("digests", prefix, f"{chunk:06d}.parquet"), digests, _DIGEST)
        return {"num_photos": len(photos)}

    plan.once(f"scanned/{chunk:06d}", scan)


def digest_bucket(sha256: str, layout: Layout) -> str:
    """The bucket of a content digest."""
    return f"{int(sha256[:8], 16) * layout.num_digest_buckets >> 32:06d}"


def shard_number(name: str, num_shards: int) -> int:
    """The shard of a key: the leading bits of its digest."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") * num_shards >> 64


def _scanned(photo: Photo, root: str, layout: Layout) -> dict[str, Any]:
    key, sha256, reason = None, None, None
    try:
        key = make_key(photo.path)
        sha256 = sha256_hex(storage.read_bytes(storage.join(root, photo.path)))
    except ValueError as fault:
        reason = str(fault)
    except OSError as fault:
        reason = f"cannot be read: {type(fault).__name__}"
    if photo.split == "unlisted":
        reason = "the dataset's own list does not name it"
    number = shard_number(key or photo.path, layout.num_shards[photo.split])
    place = {"split": photo.split, "number": number, "label": photo.label}
    return {"key": key, "path": photo.path, **place, "sha256": sha256, "reason": reason}


def _grouped(rows: list[dict[str, Any]], bucket: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[bucket(row)].append(row)
    yield from sorted(groups.items())
