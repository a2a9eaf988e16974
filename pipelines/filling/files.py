"""Picture files that one argument names: a file, a folder, or a pattern such as `photos/*.jpg`, on disk or on a store.

In: the argument. Out: the files' names below a common root, in byte order. No file is opened here.
"""

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra import storage
from infra.object_store import translate_faults
from pipelines.data.archive.system_files import find_system_file_reason
from pipelines.data.image.mask_files import has_picture_name
from pipelines.records import UsageError

_MAGIC: Final = frozenset("*?[")
SUFFIXES: Final = ".jpg, .jpeg, .png, .webp, .tif, .bmp or .gif"


@dataclass(frozen=True)
class PictureFiles:
    """Files below one root, by their paths relative to it."""

    given: str
    """The argument as its user wrote it."""
    root: str
    """URI of the folder that holds all of them."""
    names: tuple[str, ...]
    is_one: bool = False
    """Whether the argument names one file itself."""
    is_deep: bool = True
    """Whether files in folders below the root count."""

    def get_uri(self, name: str) -> str:
        """URI of one of them."""
        return storage.join(self.root, name)

    def may_hold(self, uri: str) -> bool:
        """Whether a file written to this folder could be one of these at the next run."""
        if self.is_one:
            return False
        below = make_relative(uri, self.root)
        return below is not None and (below == "" or self.is_deep)


def find_files(given: str, option: str) -> PictureFiles:
    """The files that the argument of an option names; raises UsageError where there is none."""
    if storage.exists(given):
        if _is_folder(given):
            return _list_folder(given, option)
        root, _, name = storage.to_absolute(given).rpartition("/")
        return PictureFiles(given, root or "/", (name,), is_one=True)
    if not _MAGIC.isdisjoint(given):
        return _match_pattern(given, option)
    raise UsageError(f"no file at {given}: give {option} a file, a folder, or a pattern such as 'photos/*.jpg'")


def read_file(uri: str) -> bytes:
    """All bytes of a file; raises OSError for what is none, such as a pipe."""
    local = storage.to_local_path(uri)
    return storage.read_bytes(uri) if local is None else storage.read_below(str(local.parent), local.name)


def make_relative(uri: str, folder: str) -> str | None:
    """Path of a URI below a folder, "" for the folder itself, None elsewhere; links on a disk are followed."""
    inner, outer = (_resolve(place) for place in (uri, folder))
    if inner == outer:
        return ""
    return inner[len(outer) + 1 :] if inner.startswith(f"{outer}/") else None


def _resolve(uri: str) -> str:
    local = storage.to_local_path(uri)
    return (uri if local is None else str(local.resolve())).rstrip("/")


def _is_folder(uri: str) -> bool:
    fs, path = storage.locate(uri)
    with translate_faults(fs, uri):
        return bool(fs.isdir(path))


def _list_folder(given: str, option: str) -> PictureFiles:
    names = tuple(name for name, _ in storage.list_files(given) if _is_picture(name))
    if not names:
        raise UsageError(f"{option}: no pictures in {given}: their names must end in {SUFFIXES}")
    return PictureFiles(given, storage.to_absolute(given).rstrip("/"), names)


def _match_pattern(given: str, option: str) -> PictureFiles:
    """Files that match; folders whose names only look like a part of a pattern are taken by name."""
    root, rest = _split_pattern(given)
    fs, path = storage.locate(root)
    with translate_faults(fs, given):
        found = fs.glob(f"{glob.escape(path.rstrip('/'))}/{rest}", detail=True)
    start = len(path.rstrip("/")) + 1
    names = sorted(name[start:] for name, entry in found.items() if entry["type"] == "file" and _is_picture(name))
    if not names:
        raise UsageError(f"{option}: no picture matches {given}: their names must end in {SUFFIXES}")
    return PictureFiles(given, storage.to_absolute(root).rstrip("/"), tuple(names), is_deep="/" in rest)


def _split_pattern(pattern: str) -> tuple[str, str]:
    """The folder before the first part of a pattern that stands for several names, and the rest."""
    parts = pattern.split("/")
    for number, part in enumerate(parts[:-1]):
        if not _MAGIC.isdisjoint(part) and not storage.exists("/".join(parts[: number + 1])):
            break
    else:
        number = len(parts) - 1
    return "/".join(parts[:number]) or ("/" if pattern.startswith("/") else "."), "/".join(parts[number:])


def _is_picture(path: str) -> bool:
    name = Path(path).name
    return has_picture_name(path) and find_system_file_reason(path) is None and not name.startswith(storage.ASIDE)
