"""Compressed and remote archives, copied once into containers that can be sought.

In: the files of an archive, in order, and a URI to spool them under. Out: a `Found` per file, as often as it is
iterated: the archive is read a single time, and an index beside each container answers from then on.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from isal import isal_zlib

from infra import storage
from pipelines.data.archive.open import ArchiveFile
from pipelines.data.archive.read import describe_damage
from pipelines.records import ByteRange, CorruptDataError, Found, canonical_json

CONTAINER_BYTES: Final = 64 << 20
_FILES_PER_CONTAINER: Final = 10_000


class SpooledArchive:
    """Files behind each other in containers `<prefix>/<number>` of some 64 MiB, and beside each its index."""

    def __init__(self, files: Iterator[ArchiveFile], prefix: str, numbers: Iterator[int]) -> None:
        """Read all of the archive; a damaged file is refused and not copied."""
        self._indices: list[str] = []
        with storage.scratch_folder(prefix) as folder:
            while found := _fill(files, folder / "container", uri := storage.join(prefix, f"{next(numbers):06d}")):
                storage.publish_file(uri, folder / "container")
                self._indices.append(f"{uri}.json")
                storage.publish(
                    self._indices[-1], canonical_json([vars(f) | {"place": f.place and vars(f.place)} for f in found])
                )

    def __iter__(self) -> Iterator[Found]:
        for index in self._indices:
            for row in json.loads(storage.read_bytes(index)):
                yield Found(**row | {"place": row["place"] and ByteRange(**row["place"])})


def _fill(files: Iterator[ArchiveFile], path: Path, uri: str) -> list[Found]:
    done: list[Found] = []
    with path.open("wb") as stream:
        for file in files:
            done.append(_append(file, stream, uri))
            if stream.tell() >= CONTAINER_BYTES or len(done) >= _FILES_PER_CONTAINER:
                break
    return done


def _append(file: ArchiveFile, stream: BinaryIO, uri: str) -> Found:
    if file.found.refusal is not None:
        return file.found
    start, crc32 = stream.tell(), 0
    try:
        for piece in file.pieces():
            crc32 = isal_zlib.crc32(piece, crc32)
            stream.write(piece)
    except CorruptDataError as fault:
        stream.seek(start)
        stream.truncate()
        return replace(file.found, refusal=describe_damage(file.found.path, fault))
    return replace(file.found, place=ByteRange(uri, start, file.found.size_bytes, crc32=crc32))
