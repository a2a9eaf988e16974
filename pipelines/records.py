"""Records that packages pass to each other, with key grammar, ranges and units, and the errors of Lacuna.

A bad sample is a value (`Rejected`), a bad argument is an exception (`UsageError`). In the pipelines images are uint8
RGB HxWx3 and masks uint8 HxW in {0, 1}, 1 = hole.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

MAX_KEY_BYTES: Final = 200
SPLITS: Final = ("train", "val", "test", "rest")
"""Splits that a source gives; `rest` is what a choice leaves over, so that every file stays on the ledger."""
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)
_SIMPLE_PATH: Final = re.compile(r"((?:[A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+)(?:\.[A-Za-z0-9_-]*)?")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_/-")


class UsageError(ValueError):
    """Bad input, found before any work began; the message says what, which value, where, and what to do."""


class JobError(RuntimeError):
    """Work that failed; the message says what, where, and what to do."""


class CorruptDataError(RuntimeError):
    """Bytes that are not as they were written; the message names the file and the key."""


def canonical_json(value: Any) -> bytes:
    """JSON with one spelling for one value: sorted names, no spaces, ASCII."""
    return _CANONICAL.encode(value).encode()


def sha256_hex(data: bytes) -> str:
    """SHA-256 of the bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def join_choices(choices: list[int]) -> str:
    """Choices in words: "1, 2 or 4"."""
    *most, last = map(str, choices)
    return f"{', '.join(most)} or {last}" if most else last


def find_difference(there: Any, wanted: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """(dotted name, there, wanted) of the first field of `wanted` that differs, or None."""
    if not isinstance(wanted, dict) or not isinstance(there, dict):
        return None if there == wanted else (name, there, wanted)
    for key, value in wanted.items():
        difference = find_difference(there.get(key), value, f"{name}.{key}".lstrip("."))
        if difference is not None:
            return difference
    return None


def make_key(path: str) -> str:
    """Key of a file from its path under the dataset's root, which uses `/` and does not start with it.

    The last suffix is removed; UTF-8 bytes outside [A-Za-z0-9_/-] become =XX. Raises ValueError where a path has no
    key.
    """
    if (simple := _SIMPLE_PATH.fullmatch(path)) is not None and len(path) <= MAX_KEY_BYTES:
        return simple[1]  # most names, in a fifth of the time
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts):
        raise ValueError("path leaves or blurs the root")
    stem = parts[-1].rpartition(".")[0] or parts[-1]
    raw = "/".join([*parts[:-1], stem]).encode("utf-8", "surrogateescape")
    key = "".join(chr(b) if b in _PLAIN else f"={b:02X}" for b in raw)
    if len(key) > MAX_KEY_BYTES:
        raise ValueError(f"key longer than {MAX_KEY_BYTES} bytes")
    return key


@dataclass(frozen=True)
class ByteRange:
    """Place of a file's bytes inside an archive or another container."""

    container: str
    """URI of the container."""
    offset: int
    stored_bytes: int
    deflated: bool = False
    """Whether the bytes are a raw deflate stream (RFC 1951) of the file instead of the file itself."""
    crc32: int | None = None
    """CRC32 of the file, where the container holds one."""


@dataclass(frozen=True)
class Found:
    """File under a source's root, in a folder or in an archive."""

    path: str
    """Path relative to the root, with `/`."""
    size_bytes: int
    place: ByteRange | None = None
    """Place of its bytes in an archive, None for a file in a folder."""
    refusal: str | None = None
    """Reason why it cannot be read from its archive, or None."""

    def as_photo(
        self, split: str, label: str | None = None, refusal: str | None = None, planes: tuple[Plane, ...] = ()
    ) -> Photo:
        """Photo of this file as an input of the dataset; the file's own refusal comes before other ones."""
        return Photo(self.path, split, label, self.size_bytes, self.refusal or refusal, self.place, planes)


@dataclass(frozen=True)
class Plane:
    """Further picture of a photo, from a file beside it: `seg` is its segmentation map."""

    name: str
    path: str
    size_bytes: int
    place: ByteRange | None = None
    refusal: str | None = None
    """Reason why it is rejected, or None; its photo is not."""


@dataclass(frozen=True)
class Photo:
    """File found under a source's root, before any byte of it was read."""

    path: str
    """Path relative to the root, with `/`."""
    split: str
    label: str | None
    size_bytes: int
    refusal: str | None = None
    """Reason why the source rejects it, or None."""
    place: ByteRange | None = None
    """Place of its bytes in an archive, None for a file in a folder."""
    planes: tuple[Plane, ...] = ()


@dataclass(frozen=True)
class Absent:
    """File, or whole folder, that the dataset's list or layout names and the root does not hold."""

    path: str


@dataclass(frozen=True)
class Sample:
    """Normalized photo, ready to be a member of a shard."""

    picture: bytes
    suffix: str
    """Format of `picture`: jpg, png or webp."""
    width_px: int
    height_px: int
    normalised: tuple[str, ...]
    """Steps of the normalization, in order; empty where the original bytes were kept."""


@dataclass(frozen=True)
class Rejected:
    """Photo that did not become a sample, with the reason."""

    reason: str


@dataclass(frozen=True)
class Member:
    """File inside a shard: the place of its data and their CRC32."""

    name: str
    offset: int
    size: int
    crc32: int


@dataclass(frozen=True)
class ShardRecord:
    """Row of a shard in the manifest. Files are relative to the dataset's URI; digests are SHA-256 in hexadecimal."""

    split: str
    number: int
    file: str
    num_samples: int
    size_bytes: int
    sha256: str
    table: str
    table_sha256: str
    num_duplicates: int
    num_rejected: int
    num_removed: int = 0
    layer: int = 0
    num_planes: int = 0
    """Number of planes stored with the samples, without masks."""
    num_planes_rejected: int = 0
    """Number of planes that samples were written without."""
    num_masks: int = 0
    """Number of rejected files that are masks of photos."""
    num_system_files: int = 0
    """Number of rejected files that an operating system left."""


@dataclass(frozen=True)
class Batch:
    """Input of a rank in one step: N photos with K masks each."""

    keys: tuple[str, ...]
    positions: tuple[int, ...]
    """Global sample numbers since the start of training."""
    image: torch.Tensor
    """uint8 N3HW."""
    mask: torch.Tensor
    """uint8 NKHW in {0, 1}, 1 = hole."""
    planes: dict[str, torch.Tensor] = field(default_factory=dict)
    """Further pictures by name, uint8 NCHW: `image_large`, `segmentation`, `edge`, `sketch`."""
    incidents: tuple[str, ...] = ()
    """Faults that were repaired for this batch: replaced samples, repeated requests."""

    def pin_memory(self) -> Batch:
        """Batch in pinned memory, from which a GPU copies while it computes."""
        planes = {name: plane.pin_memory() for name, plane in self.planes.items()}
        return replace(self, image=self.image.pin_memory(), mask=self.mask.pin_memory(), planes=planes)


@dataclass(frozen=True)
class Score:
    """Sum and count of one metric over the pairs of one hole-ratio bin; scores merge exactly."""

    total: float
    count: int

    def __add__(self, other: Score) -> Score:
        return Score(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float:
        """Mean over pairs; NaN without pairs."""
        return self.total / self.count if self.count else float("nan")
