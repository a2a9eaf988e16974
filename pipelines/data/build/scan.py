"""First two steps of a build: the listing of all files, and the key and digests of each.

The listing is streamed into chunk files. A scan task reads the files of some chunks, digests them, and spreads the rows
over buckets by key, for the steps that resolve keys and write shards.
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
from pipelines.data.build.roots import RootRecorder, make_archives_record
from pipelines.data.build.timing import Seconds, Stopwatch
from pipelines.data.commit.workspace import (
    Layout,
    Plan,
    fields_of,
    find_part,
    read_stored_table,
    round_to_power_of_two,
    rows_of,
    write_buckets,
    write_table,
)
from pipelines.data.config import DatasetConfig
from pipelines.data.image.header import read_header
from pipelines.data.image.mask_files import find_mask_reason, is_mask_reason
from pipelines.data.image.normalize import hash_pixels, name_memory_faults
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
"""Most rows in the memory of a scan; with fewer, each bucket of keys is gathered from more files."""
_USUAL_SCANS: Final = 1024
_PUTS_AT_ONCE: Final = 16
_PHOTOS_PER_DIGEST_BUCKET: Final = 250_000

_TEXT, _NUMBER, _CRC32 = pa.string(), pa.int64(), pa.uint32()
_PLACE = pa.struct(
    {"container": _TEXT, "offset": _NUMBER, "stored_bytes": _NUMBER, "deflated": pa.bool_(), "crc32": _CRC32}
)
_PLANE = pa.struct({"name": _TEXT, "path": _TEXT, "size_bytes": _NUMBER, "place": _PLACE, "refusal": _TEXT})
_OWN = {"path": _TEXT, "split": _TEXT, "label": _TEXT, "size_bytes": _NUMBER, "refusal": _TEXT}
_PHOTO = pa.schema(_OWN | {"place": _PLACE, "planes": pa.list_(_PLANE)})
_DIGESTS = {"sha256": _TEXT, "crc32": _CRC32, "content_sha256": _TEXT}
SCANNED = pa.schema([*_PHOTO, *pa.schema({"key": _TEXT, "number": _NUMBER} | _DIGESTS | {"duplicate_of": _TEXT})])
_FINDINGS: Final = ("refusal", "key", "number", "sha256", "crc32", "content_sha256", "duplicate_of")
_ABSENT = pa.schema([("path", pa.string())])


def to_photo(row: dict[str, Any]) -> Photo:
    """The photo of a row that has the columns of the listing."""
    planes = tuple(Plane(**plane | {"place": _to_byte_range(plane["place"])}) for plane in row["planes"])
    own = row["path"], row["split"], row["label"], row["size_bytes"], row["refusal"]
    return Photo(*own, place=_to_byte_range(row["place"]), planes=planes)


def _to_byte_range(fields: dict[str, Any] | None) -> ByteRange | None:
    return ByteRange(**fields) if fields else None


def _to_row(photo: Photo) -> dict[str, Any]:
    """The row of a photo; `dataclasses.asdict` copies every string and takes ten times as long."""
    planes = [vars(plane) | {"place": plane.place and vars(plane.place)} for plane in photo.planes]
    return vars(photo) | {"place": photo.place and vars(photo.place), "planes": planes}


def list_source(plan: Plan) -> Layout:
    """List the source into chunk files, once; raises UsageError where there is no photo."""
    return Layout(**plan.run_once(_LISTED, lambda: _list_chunks(plan))[0])


def read_layout(plan: Plan) -> Layout | None:
    """The layout of a build that was stopped after its listing, None before it."""
    marker = plan.at(f"{_LISTED}.json")
    return Layout(**json.loads(storage.read_bytes(marker))) if storage.exists(marker) else None


def files_at_listing(plan: Plan, layout: Layout) -> Iterator[tuple[str, int]]:
    """Yield path and size of each listed file, in order of the listing."""
    for number in range(layout.num_chunks):
        listed = read_stored_table(_locate_chunk(plan, "listing", number))
        yield from ((path, size) for path, size in fields_of(listed, "path", "size_bytes"))


def files_in_root(plan: Plan) -> Iterator[tuple[str, int]]:
    """Yield path and size of each file of a new listing."""
    items = (item for chunk in _chunks(plan) for item in chunk if isinstance(item, Photo))
    yield from ((photo.path, photo.size_bytes) for photo in map(partial(_assign_split, plan=plan), items))


def _list_chunks(plan: Plan) -> dict[str, Any]:
    """Write the chunks of the listing, numbered densely in its order; returns the fields of `Layout`."""
    bytes_of_split: dict[str, int] = defaultdict(int)
    archives, recorder = DATASETS[plan.config.source].list_archives(plan.root), RootRecorder()
    root = make_archives_record(plan.root, archives) if archives else None
    num_files, num_absent, num_chunks = 0, 0, Counter[str]()
    with _ParallelWriter() as puts:
        for chunk in _chunks(plan):
            # Add the chunk to the record of the root, then assign its photos to splits.
            listed = [item for item in chunk if isinstance(item, Photo)]
            for photo in listed if root is None else ():
                recorder.add_photo(photo)
            photos = [_assign_split(photo, plan) for photo in listed]
            absent = [vars(item) for item in chunk if isinstance(item, Absent)]
            for photo in photos:
                bytes_of_split[photo.split] += photo.size_bytes if photo.refusal is None else 0
            # Write its photos and its absent files.
            for what, rows, schema in (("listing", [_to_row(p) for p in photos], _PHOTO), ("absent", absent, _ABSENT)):
                if rows:
                    puts.put(_locate_chunk(plan, what, num_chunks[what]), rows, schema)
                    num_chunks[what] += 1
            num_files, num_absent = num_files + len(photos), num_absent + len(absent)
    # Size shards and buckets by the totals.
    if not num_files:
        raise UsageError(f"no files under {plan.root}: --root must be a folder in the layout of {plan.config.source!r}")
    num_earlier = read_commit(plan.out)["ledger"]["num_inputs"] if plan.layer else 0
    return {
        "num_files": num_files,
        "num_absent": num_absent,
        "num_absent_chunks": num_chunks["absent"],
        "num_chunks": num_chunks["listing"],
        "num_scans": max(min(num_chunks["listing"], _USUAL_SCANS), -(-num_files // PHOTOS_PER_SCAN)),
        "num_shards": {
            s: round_to_power_of_two(-(-n // plan.config.shard_bytes)) for s, n in sorted(bytes_of_split.items())
        },
        "num_digest_buckets": round_to_power_of_two(-(-(num_files + num_earlier) // _PHOTOS_PER_DIGEST_BUCKET)),
        "num_earlier": num_earlier,
        "root": root or recorder.make_record(),
    }


def _chunks(plan: Plan) -> Iterator[list[Photo | Absent]]:
    listed = DATASETS[plan.config.source].list_items(plan.root, plan.config.splits, plan.at("spooled"))
    while chunk := list(islice(listed, PHOTOS_PER_CHUNK)):
        yield chunk


def _locate_chunk(plan: Plan, what: str, number: int) -> str:
    return plan.at(what, f"{number:06d}.arrow")


class _ParallelWriter:
    """Writer of files in threads while the listing goes on, at most one file per thread at once."""

    def __enter__(self) -> "_ParallelWriter":
        self._pool = ThreadPoolExecutor(_PUTS_AT_ONCE)
        self._under_way: deque[Future[None]] = deque()
        return self

    def put(self, uri: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
        """Start to write a file; where all threads are busy, wait for the oldest write first."""
        if len(self._under_way) >= _PUTS_AT_ONCE:
            self._under_way.popleft().result()
        self._under_way.append(self._pool.submit(write_table, uri, pa.Table.from_pylist(rows, schema)))

    def __exit__(self, kind: object, fault: object, trace: object) -> None:
        self._pool.shutdown()
        for put in self._under_way if fault is None else ():
            put.result()


def publish_absent(plan: Plan, layout: Layout) -> list[str]:
    """Publish the table of absent files; returns its name in a list, empty if no file is absent."""
    if not layout.num_absent:
        return []
    with storage.scratch_folder(plan.at("scratch")) as folder:
        path, digest = folder / "absent.parquet", hashlib.sha256()
        with pq.ParquetWriter(path, _ABSENT, compression="zstd", write_statistics=False, store_schema=False) as writer:
            for number in range(layout.num_absent_chunks):
                writer.write_table(read_stored_table(_locate_chunk(plan, "absent", number)))
        storage.digest_file(str(path), digest)
        name = f"tables/absent-{plan.layer:06d}-{digest.hexdigest()[:12]}.parquet"
        storage.publish_file(storage.join(plan.out, name), path)
    return [name]


def _assign_split(photo: Photo, plan: Plan) -> Photo:
    """The photo in its final split, refused where its name or size is: a share of train is held out for val.

    A digest of the key chooses that share.
    """
    # Refuse names that no table can hold, and files that no task should hold.
    shown = photo.path.encode("utf-8", "backslashreplace").decode()
    if shown != photo.path:
        label = photo.label and photo.label.encode("utf-8", "backslashreplace").decode()
        photo = replace(photo, path=shown, label=label, planes=(), refusal="its name is not UTF-8")
    if plan.config.masks_as_photos and is_mask_reason(photo.refusal):
        photo = replace(photo, refusal=None)
    if photo.size_bytes > MAX_FILE_BYTES and (photo.refusal is None or is_mask_reason(photo.refusal)):
        photo = replace(photo, refusal=_find_size_refusal(photo))
    if any(plane.size_bytes > MAX_FILE_BYTES for plane in photo.planes):
        photo = replace(
            photo, planes=tuple(replace(p, refusal=p.refusal or _find_size_refusal(p)) for p in photo.planes)
        )
    if photo.split == "train" and plan.config.holdout:
        held_out = find_part(hash_path(plan.seed, "holdout", _get_name(photo)), 2**53) < plan.config.holdout * 2**53
        return replace(photo, split="val") if held_out else photo
    return photo


def _find_size_refusal(file: Photo | Plane) -> str | None:
    too_large = file.size_bytes > MAX_FILE_BYTES
    return f"{file.size_bytes} bytes are more than {MAX_FILE_BYTES}" if too_large else None


def _get_name(photo: Photo) -> str:
    """Name that decides the split of a photo: its key, or its path where that makes no key."""
    try:
        return make_key(photo.path)
    except ValueError:
        return photo.path


def scan_files(plan: Plan, layout: Layout, scan: int) -> Seconds:
    """Read and digest the photos of some chunks of the listing, and write their rows into buckets by key."""
    stopwatch = Stopwatch()

    def run() -> dict[str, Any]:
        tables, buckets = [SCANNED.empty_table()], array("q")
        for chunk in range(scan, layout.num_chunks, layout.num_scans):
            listed = read_stored_table(_locate_chunk(plan, "listing", chunk))
            found = [_scan_photo(to_photo(row), plan, layout, stopwatch) for row in rows_of(listed)]
            buckets.extend(row["bucket"] for row in found)
            new = pa.Table.from_pylist(found, pa.schema([SCANNED.field(name) for name in _FINDINGS]))
            columns = [(new if name in _FINDINGS else listed)[name] for name in SCANNED.names]
            tables.append(pa.table(columns, SCANNED))
        write_buckets(locate_scan(plan, scan), pa.concat_tables(tables), buckets, layout.num_key_buckets)
        return {"num_photos": len(buckets)}

    with stopwatch.measure("sorting"):
        plan.run_once(f"scanned/{scan:06d}", run)
    return stopwatch.seconds


def locate_scan(plan: Plan, scan: int) -> str:
    """URI of the buckets of a scan."""
    return plan.at("scanned", f"{scan:06d}.buckets")


def _scan_photo(photo: Photo, plan: Plan, layout: Layout, stopwatch: Stopwatch) -> dict[str, Any]:
    """Columns that a scan adds to a photo: key, shard and bucket, digests, or why it is refused.

    Digests: SHA-256 of the bytes and, where the config compares photos by them, of the pixels; CRC32 of the bytes.
    """
    key, refusal, digests = None, photo.refusal, dict[str, Any].fromkeys(_DIGESTS)
    try:
        key = make_key(photo.path)
        if refusal is None or is_mask_reason(refusal):
            with stopwatch.measure("reading"):
                raw = read_photo(plan.root, photo)
            with stopwatch.measure("cleaning"):
                content, refusal = _check_photo(photo, raw, plan.config)
            with stopwatch.measure("hashing"):
                digests = {"sha256": sha256_hex(raw), "crc32": isal_zlib.crc32(raw), "content_sha256": content}
    except (ValueError, CorruptDataError) as fault:
        refusal = refusal or str(fault)
    name = hashlib.sha256((key or photo.path).encode()).digest()
    number, bucket = find_part(name, layout.num_shards[photo.split]), find_part(name, layout.num_key_buckets)
    return {"refusal": refusal, "key": key, "number": number, "bucket": bucket, **digests}


def _check_photo(photo: Photo, raw: bytes, config: DatasetConfig) -> tuple[str | None, str | None]:
    """Digest of the pixels where the config compares photos by them, and why a file owns no key: no picture, a mask."""
    with name_memory_faults(photo.path):
        content = hash_pixels(raw, config) if config.duplicates == "pixels" else None
    header = read_header(raw)
    if isinstance(header, Rejected):
        return content, photo.refusal or header.reason
    return content, find_mask_reason(raw, photo.path, photo.refusal, config)


def read_unchanged(plan: Plan, photo: Photo, crc32: int) -> bytes:
    """Bytes of a scanned file; raises JobError where they have changed since."""
    try:
        raw = read_photo(plan.root, photo)
        if isal_zlib.crc32(raw) == crc32:
            return raw
    except CorruptDataError:
        pass
    raise JobError(
        f"{photo.path} under {plan.root} changed during the build: put it back as it was, or delete {plan.at()} "
        "and build again"
    )
