"""The doors between the rooms: what is handed from one to the next, with key grammar, ranges and units.

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
_KEY: Final = re.compile(r"(?:[A-Za-z0-9_-]|=[0-9A-F]{2}|(?<=[^/])/(?=[^/]))+")
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)
_SIMPLE_PATH: Final = re.compile(r"((?:[A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+)(?:\.[A-Za-z0-9_-]*)?")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_/-")


class UsageError(ValueError):
    """Bad input, noticed before any work began: says what, which value, where, and what to do."""


class JobError(RuntimeError):
    """Work that ended on a fault of its own: says which, where, and what to do."""


class CorruptDataError(RuntimeError):
    """Bytes that are not what was written: says which file and which key."""


def canonical_json(value: Any) -> bytes:
    """One spelling for one value: sorted names, no spaces, ASCII."""
    return _CANONICAL.encode(value).encode()


def sha256_hex(data: bytes) -> str:
    """SHA-256 of the bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def join_choices(choices: list[int]) -> str:
    """Choices in words: "1, 2 or 4"."""
    *most, last = map(str, choices)
    return f"{', '.join(most)} or {last}" if most else last


def find_difference(there: Any, asked: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """(dotted name, there, asked) of the first field of `asked` that differs, None where none does."""
    if not isinstance(asked, dict) or not isinstance(there, dict):
        return None if there == asked else (name, there, asked)
    for key, value in asked.items():
        difference = find_difference(there.get(key), value, f"{name}.{key}".lstrip("."))
        if difference is not None:
            return difference
    return None


def make_key(path: str) -> str:
    """The key of a file from its path under the dataset's root, which uses `/` and does not start with it.

    The last suffix goes; UTF-8 bytes outside [A-Za-z0-9_/-] become =XX. Raises ValueError saying what no key can hold.
    """
    if (simple := _SIMPLE_PATH.fullmatch(path)) is not None and len(path) <= MAX_KEY_BYTES:
        return simple[1]  # what most names are, in a fifth of the time
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts):
        raise ValueError("path leaves or blurs the root")
    stem = parts[-1].rpartition(".")[0] or parts[-1]
    raw = "/".join([*parts[:-1], stem]).encode("utf-8", "surrogateescape")
    key = "".join(chr(b) if b in _PLAIN else f"={b:02X}" for b in raw)
    if len(key) > MAX_KEY_BYTES:
        raise ValueError(f"key longer than {MAX_KEY_BYTES} bytes")
    return key


def is_key(text: str) -> bool:
    """Whether the text follows the key grammar."""
    return len(text) <= MAX_KEY_BYTES and _KEY.fullmatch(text) is not None


@dataclass(frozen=True)
class ByteRange:
    """Where the bytes of a file lie that is no file of its own: a stretch of an archive or of another container."""

    container: str
    """URI."""
    offset: int
    stored_bytes: int
    deflated: bool = False
    """Whether they are a raw deflate stream (RFC 1951) of the file instead of the file itself."""
    crc32: int | None = None
    """Of the file, where the container keeps one."""


@dataclass(frozen=True)
class Found:
    """A file under a source's root, in a folder or in an archive."""

    path: str
    """Relative to the root, with `/`."""
    size_bytes: int
    place: ByteRange | None = None
    """None where it is a file of its own."""
    refusal: str | None = None
    """Why it cannot be taken out of its archive, if so."""

    def as_photo(
        self, split: str, label: str | None = None, refusal: str | None = None, planes: tuple[Plane, ...] = ()
    ) -> Photo:
        """The same file as an input of the dataset; what ails the file itself comes before other refusals."""
        return Photo(self.path, split, label, self.size_bytes, self.refusal or refusal, self.place, planes)


@dataclass(frozen=True)
class Plane:
    """A further picture of a photo that lies beside it: `seg` is its segmentation map."""

    name: str
    path: str
    size_bytes: int
    place: ByteRange | None = None
    refusal: str | None = None
    """Why it cannot be taken, if so; its photo can."""


@dataclass(frozen=True)
class Photo:
    """A file found under a source's root, before anything of it was read."""

    path: str
    """Relative to the root, with `/`."""
    split: str
    label: str | None
    size_bytes: int
    refusal: str | None = None
    """Why the source itself does not take it, if so."""
    place: ByteRange | None = None
    """Where its bytes lie if it is no file of its own."""
    planes: tuple[Plane, ...] = ()


@dataclass(frozen=True)
class Absent:
    """What the dataset's list or layout names and the root does not hold: a file, or a folder with all in it."""

    path: str


@dataclass(frozen=True)
class Sample:
    """A cleaned photo, ready to be a member of a shard."""

    picture: bytes
    suffix: str
    """jpg, png or webp: what `picture` holds."""
    width_px: int
    height_px: int
    normalised: tuple[str, ...]
    """What was done to the original, in order; empty where its bytes were kept."""


@dataclass(frozen=True)
class Rejected:
    """A photo that did not become a sample, and why."""

    reason: str


@dataclass(frozen=True)
class Member:
    """One file inside a shard: where its data lies and the CRC32 of it."""

    name: str
    offset: int
    size: int
    crc32: int


@dataclass(frozen=True)
class ShardRecord:
    """A shard as the manifest knows it. Files are relative to the dataset's URI; digests are SHA-256 in hexadecimal."""

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
    """Pictures stored beside the samples, masks not among them."""
    num_planes_rejected: int = 0
    """Of samples that were written without them."""
    num_masks: int = 0
    """Rejected files that are masks of photos."""
    num_system_files: int = 0
    """Rejected files that an operating system left."""


@dataclass(frozen=True)
class Batch:
    """What a rank trains on in one step: N photos with K masks each."""

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
    """What went wrong on the way to this batch and was made good: replaced samples, repeated requests."""

    def pin_memory(self) -> Batch:
        """The same in memory from which a GPU copies while it computes."""
        planes = {name: plane.pin_memory() for name, plane in self.planes.items()}
        return replace(self, image=self.image.pin_memory(), mask=self.mask.pin_memory(), planes=planes)


@dataclass(frozen=True)
class Score:
    """One metric over the pairs of one hole-ratio bin, as sum and count, so that scores merge exactly."""

    total: float
    count: int

    def __add__(self, other: Score) -> Score:
        return Score(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float:
        """The mean over pairs; NaN where there is none."""
        return self.total / self.count if self.count else float("nan")
