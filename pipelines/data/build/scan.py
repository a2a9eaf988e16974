"""First two steps of a build: what files there are, and what each of them is called and contains.

The listing is streamed into chunk files; a scan task reads the files of some chunks, digests them, and spreads what it
found over buckets by key, for the steps that settle names and write shards.
"""

import hashlib
import json
from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from isal import isal_zlib

from infra import storage
from pipelines.data.archive.read import read_photo
from pipelines.data.build.roots import RootRecorder, record_of_archives
from pipelines.data.build.timing import Seconds, Stopwatch
from pipelines.data.commit.workspace import (
    Layout,
    Plan,
    fields_of,
    power_of_two,
    read_stored,
    rows_of,
    share_of,
    write_buckets,
    write_rows,
)
from pipelines.data.image.header import read_header
from pipelines.data.image.mask_files import is_mask_reason, reason_by_pixels
from pipelines.data.image.normalize import memory_for, pixels_digest
from pipelines.data.sources import DATASETS
from pipelines.keyed_rng import hash_path
from pipelines.manifest import read_commit
from pipelines.records import (
    Absent,
    ByteRange,
    CorruptDataError,
    JobError,
    Photo,
    Plane,
    Rejected,
    UsageError,
    make_key,
    sha256_hex,
)

_LISTED: Final = "listed"
PHOTOS_PER_CHUNK: Final = 1000
MAX_FILE_BYTES: Final = 1 << 30
"""Larger files are rejected unread: a task holds a file in memory, and no photo is so large."""
PHOTOS_PER_SCAN: Final = 100_000
"""No scan holds the rows of more; fewer would mean more files for each bucket of keys to be gathered from."""
_USUAL_SCANS: Final = 1024
_PUTS_AT_ONCE: Final = 16
_PHOTOS_PER_DIGEST_BUCKET: Final = 250_000

_PLACE = pa.struct(
    [
        ("container", pa.string()),
        ("offset", pa.int64()),
        ("stored_bytes", pa.int64()),
        ("deflated", pa.bool_()),
        ("crc32", pa.uint32()),
    ]
)
_PLANE = pa.struct(
    [
        ("name", pa.string()),
        ("path", pa.string()),
        ("size_bytes", pa.int64()),
        ("place", _PLACE),
        ("refusal", pa.string()),
    ]
)
_PHOTO = pa.schema(
    [
        ("path", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("size_bytes", pa.int64()),
        ("refusal", pa.string()),
        ("place", _PLACE),
        ("planes", pa.list_(_PLANE)),
    ]
)
SCANNED = pa.schema(
    [
        *_PHOTO,
        ("key", pa.string()),
        ("number", pa.int64()),
        ("sha256", pa.string()),
        ("crc32", pa.uint32()),
        ("content_sha256", pa.string()),
        ("duplicate_of", pa.string()),
    ]
)
_FINDINGS: Final = ("refusal", "key", "number", "sha256", "crc32", "content_sha256", "duplicate_of")
_ABSENT = pa.schema([("path", pa.string())])


def photo_of(row: dict[str, Any]) -> Photo:
    """The photo of a row that begins as the rows of the listing do."""
    planes = tuple(Plane(**plane | {"place": _place(plane["place"])}) for plane in row["planes"])
    own = row["path"], row["split"], row["label"], row["size_bytes"], row["refusal"]
    return Photo(*own, place=_place(row["place"]), planes=planes)


def _place(fields: dict[str, Any] | None) -> ByteRange | None:
    return ByteRange(**fields) if fields else None


def _row(photo: Photo) -> dict[str, Any]:
    """The row of a photo; `dataclasses.asdict` copies every string of it, at ten times the price."""
    planes = [vars(plane) | {"place": plane.place and vars(plane.place)} for plane in photo.planes]
    return vars(photo) | {"place": photo.place and vars(photo.place), "planes": planes}


def list_source(plan: Plan) -> Layout:
    """Lists the source into chunk files, once; raises UsageError where there is no photo."""
    return Layout(**plan.once(_LISTED, lambda: _list_chunks(plan)))


def layout_so_far(plan: Plan) -> Layout | None:
    """The layout of a build that was stopped after its listing, None before it."""
    marker = plan.at(f"{_LISTED}.json")
    return Layout(**json.loads(storage.read_bytes(marker))) if storage.exists(marker) else None


def files_then(plan: Plan, layout: Layout) -> Iterator[tuple[str, int]]:
    """Path and size of each file that was listed, in that order."""
    for number in range(layout.num_chunks):
        listed = read_stored(_chunk_file(plan, "listing", number))
        yield from ((path, size) for path, size in fields_of(listed, "path", "size_bytes"))


def files_now(plan: Plan) -> Iterator[tuple[str, int]]:
    """The same of a listing anew."""
    items = (item for chunk in _chunks(plan) for item in chunk if isinstance(item, Photo))
    yield from ((photo.path, photo.size_bytes) for photo in map(partial(_placed, plan=plan), items))


def _list_chunks(plan: Plan) -> dict[str, Any]:
    """Chunks are numbered densely in the order of the listing; what a killed listing left beyond them nobody reads."""
    bytes_of_split: dict[str, int] = defaultdict(int)
    archives, recorder = DATASETS[plan.recipe.source].archives_read(plan.root), RootRecorder()
    root = record_of_archives(plan.root, archives) if archives else None
    num_files, num_absent, num_chunks = 0, 0, Counter[str]()
    with _Puts() as puts:
        for chunk in _chunks(plan):
            listed = [item for item in chunk if isinstance(item, Photo)]
            for photo in listed if root is None else ():
                recorder.add_photo(photo)
            photos = [_placed(photo, plan) for photo in listed]
            absent = [vars(item) for item in chunk if isinstance(item, Absent)]
            for photo in photos:
                bytes_of_split[photo.split] += photo.size_bytes if photo.refusal is None else 0
            for what, rows, schema in (("listing", [_row(p) for p in photos], _PHOTO), ("absent", absent, _ABSENT)):
                if rows:
                    puts.put(_chunk_file(plan, what, num_chunks[what]), rows, schema)
                    num_chunks[what] += 1
            num_files, num_absent = num_files + len(photos), num_absent + len(absent)
    if not num_files:
        raise UsageError(f"no files under {plan.root}: --root must be a folder in the layout of {plan.recipe.source!r}")
    num_earlier = read_commit(plan.out)["ledger"]["num_inputs"] if plan.layer else 0
    return {
        "num_files": num_files,
        "num_absent": num_absent,
        "num_absent_chunks": num_chunks["absent"],
        "num_chunks": num_chunks["listing"],
        "num_scans": max(min(num_chunks["listing"], _USUAL_SCANS), -(-num_files // PHOTOS_PER_SCAN)),
        "num_shards": {s: power_of_two(-(-n // plan.recipe.shard_bytes)) for s, n in sorted(bytes_of_split.items())},
        "num_digest_buckets": power_of_two(-(-(num_files + num_earlier) // _PHOTOS_PER_DIGEST_BUCKET)),
        "num_earlier": num_earlier,
        "root": root or recorder.record(),
    }


def _chunks(plan: Plan) -> Iterator[list[Photo | Absent]]:
    listed = DATASETS[plan.recipe.source].listed(plan.root, plan.recipe.splits, plan.at("spilled"))
    while chunk := list(islice(listed, PHOTOS_PER_CHUNK)):
        yield chunk


def _chunk_file(plan: Plan, what: str, number: int) -> str:
    return plan.at(what, f"{number:06d}.arrow")


class _Puts:
    """Files of rows put by threads while the listing goes on, as many at once as there are threads."""

    def __enter__(self) -> "_Puts":
        self._pool = ThreadPoolExecutor(_PUTS_AT_ONCE)
        self._under_way: deque[Future[None]] = deque()
        return self

    def put(self, uri: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
        """Begins to write a file; waits for the first of those under way where there are many."""
        if len(self._under_way) >= _PUTS_AT_ONCE:
            self._under_way.popleft().result()
        self._under_way.append(self._pool.submit(write_rows, uri, rows, schema))

    def __exit__(self, kind: object, fault: object, trace: object) -> None:
        self._pool.shutdown()
        for put in self._under_way if fault is None else ():
            put.result()


def publish_absent(plan: Plan, layout: Layout) -> list[str]:
    """Publishes the table of what the source's list names and the root does not hold; its name, if any."""
    if not layout.num_absent:
        return []
    with storage.scratch_folder(plan.at("scratch")) as folder:
        path, digest = folder / "absent.parquet", hashlib.sha256()
        with pq.ParquetWriter(path, _ABSENT, compression="zstd", write_statistics=False, store_schema=False) as writer:
            for number in range(layout.num_absent_chunks):
                writer.write_table(read_stored(_chunk_file(plan, "absent", number)))
        storage.digest_file(str(path), digest)
        name = f"tables/absent-{plan.layer:06d}-{digest.hexdigest()[:12]}.parquet"
        storage.publish_file(storage.join(plan.out, name), path)
    return [name]


def _placed(photo: Photo, plan: Plan) -> Photo:
    """The photo in its final split: a share of train, chosen by a digest of the key, is held out for val."""
    if not _is_utf8(photo.path):
        shown = photo.path.encode("utf-8", "backslashreplace").decode()
        label = photo.label and photo.label.encode("utf-8", "backslashreplace").decode()
        photo = replace(photo, path=shown, label=label, planes=(), refusal="its name is not UTF-8")
    if plan.recipe.masks_as_photos and is_mask_reason(photo.refusal):
        photo = replace(photo, refusal=None)
    if photo.size_bytes > MAX_FILE_BYTES and (photo.refusal is None or is_mask_reason(photo.refusal)):
        photo = replace(photo, refusal=_too_large(photo))
    if any(plane.size_bytes > MAX_FILE_BYTES for plane in photo.planes):
        photo = replace(photo, planes=tuple(replace(p, refusal=p.refusal or _too_large(p)) for p in photo.planes))
    if photo.split == "train" and plan.recipe.holdout:
        held_out = share_of(hash_path(plan.seed, "holdout", _name(photo)), 2**53) < plan.recipe.holdout * 2**53
        return replace(photo, split="val") if held_out else photo
    return photo


def _too_large(file: Photo | Plane) -> str | None:
    too_large = file.size_bytes > MAX_FILE_BYTES
    return f"{file.size_bytes} bytes are more than {MAX_FILE_BYTES}" if too_large else None


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


def scan_files(plan: Plan, layout: Layout, scan: int) -> Seconds:
    """Reads and digests the photos of some chunks of the listing; writes them into buckets by their keys."""
    laps = Stopwatch()

    def run() -> dict[str, Any]:
        tables, buckets = [SCANNED.empty_table()], array("q")
        for chunk in range(scan, layout.num_chunks, layout.num_scans):
            listed = read_stored(_chunk_file(plan, "listing", chunk))
            found = [_scanned(photo_of(row), plan, layout, laps) for row in rows_of(listed)]
            buckets.extend(row["bucket"] for row in found)
            tables.append(_with_findings(listed, found))
        write_buckets(scanned_file(plan, scan), pa.concat_tables(tables), buckets, layout.num_key_buckets)
        return {"num_photos": len(buckets)}

    plan.once(f"scanned/{scan:06d}", run)
    laps.end("sorting")
    return laps.seconds


def scanned_file(plan: Plan, scan: int) -> str:
    """Where a scan leaves its buckets."""
    return plan.at("scanned", f"{scan:06d}.buckets")


def _with_findings(listed: pa.Table, found: list[dict[str, Any]]) -> pa.Table:
    """The listed rows in the columns of `SCANNED`: what a scan did not find out goes on as it was listed."""
    new = pa.Table.from_pylist(found, pa.schema([SCANNED.field(name) for name in _FINDINGS]))
    return pa.table([(new if name in _FINDINGS else listed)[name] for name in SCANNED.names], SCANNED)


def _scanned(photo: Photo, plan: Plan, layout: Layout, laps: Stopwatch) -> dict[str, Any]:
    """What a scan finds out of a photo: key, place among shards and buckets, digests, or why it is refused."""
    key, refusal, digests = None, photo.refusal, dict.fromkeys(("sha256", "crc32", "content_sha256"))
    try:
        key = make_key(photo.path)
        if refusal is None or is_mask_reason(refusal):
            digests, refusal = _digested(photo, plan, laps)
    except (ValueError, CorruptDataError) as fault:
        refusal = refusal or str(fault)
    name = hashlib.sha256((key or photo.path).encode()).digest()
    number, bucket = share_of(name, layout.num_shards[photo.split]), share_of(name, layout.num_key_buckets)
    return {"refusal": refusal, "key": key, "number": number, "bucket": bucket, **digests}


def read_scanned(plan: Plan, photo: Photo, crc32: int, laps: Stopwatch) -> bytes:
    """Bytes of a file that was scanned; raises JobError where they are others now."""
    try:
        raw = read_photo(plan.root, photo)
        laps.end("reading")
        same = isal_zlib.crc32(raw) == crc32
    except CorruptDataError:
        same = False
    laps.end("hashing")
    if not same:
        raise JobError(
            f"{photo.path} under {plan.root} changed while it was read: put it back as it was, or "
            f"delete {plan.at()} and build anew"
        )
    return raw


def _digested(photo: Photo, plan: Plan, laps: Stopwatch) -> tuple[dict[str, Any], str | None]:
    """The digests of a file, and why it is refused if it is no picture or a mask: it must not take another's key.

    SHA-256, which tells photos apart, unless the recipe asks for that of the pixels to do so, and CRC32, by which it
    is seen later whether the file is still the same.
    """
    laps.end("sorting")
    raw = read_photo(plan.root, photo)
    laps.end("reading")
    with memory_for(photo.path):
        content = pixels_digest(raw, plan.recipe) if plan.recipe.duplicates == "pixels" else None
    laps.end("cleaning")
    digests = {"sha256": sha256_hex(raw), "crc32": isal_zlib.crc32(raw), "content_sha256": content}
    laps.end("hashing")
    header = read_header(raw)
    if isinstance(header, Rejected):
        return digests, photo.refusal or header.reason
    refusal = reason_by_pixels(raw, photo.path, photo.refusal, plan.recipe)
    laps.end("cleaning")
    return digests, refusal
