"""A source's root as a tree of files, in a folder or in the archives that the dataset is published as.

In: a root URI: a folder, an archive, or a folder that holds archives. Out: a stream of `Found`, small text files, and
which paths exist. No source needs to know which of the three it reads.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Final

from infra import storage
from pipelines.data.archive.open import SUFFIXES, ArchiveFile, is_archive, is_seekable, open_archive
from pipelines.data.archive.read import read_photo
from pipelines.data.archive.sidecars import is_possible_photo, is_sidecar, pair_planes
from pipelines.data.archive.spool import SpooledArchive
from pipelines.data.archive.system_files import find_system_file_reason
from pipelines.data.image.mask_files import photo_folders
from pipelines.records import Found, Plane, UsageError

_ENCODING: Final = "utf-8-sig"
"""UTF-8, with or without a byte order mark."""


@dataclass(frozen=True)
class Archive:
    """An archive of a published dataset, which may lie under the root in place of its content."""

    name: str
    """Without its suffix."""
    holds: tuple[str, ...]
    """Folders and files of the source in it, relative to the root."""
    below: str = ""
    """The folder that its members belong to, where their names do not carry one."""


class Tree:
    """The files under a root; archives that cannot be sought are spooled into containers under `spool_to`."""

    def __init__(self, root: str, archives: tuple[Archive, ...], spool_to: str) -> None:
        self.root = storage.to_absolute(root)
        self._archives = archives
        self._spool_to = spool_to
        self._spooled: dict[str, SpooledArchive] = {}
        self._numbers = count()
        self._is_there: dict[str, bool] = {}
        fs, path = storage.locate(self.root)
        self._whole = Archive("", ("",)) if is_archive(self.root) and fs.isfile(path) else None

    def files(self, folder: str = "") -> Iterator[Found]:
        """Yield every file below the folder, which must be there; paths are relative to the root.

        A folder comes in byte order, folder by folder; an archive in its own order, read once from start to end.
        """
        if (place := self._find_archive(folder)) is None:
            for name, size in storage.list_files(self._to_uri(folder)):
                yield _make_found(f"{folder}/{name}" if folder else name, size)
            return
        yield from (found for found in self._files_of(*place) if _is_in(found.path, folder))

    def pictures(self, folder: str = "") -> Iterator[tuple[Found, tuple[Plane, ...]]]:
        """Yield the files below the folder, each with the maps beside it, about in the order of `files`.

        Maps without a photo and masks of photos come refused.
        """
        if self._find_archive(folder) is not None:
            files = partial(self.files, folder)
            yield from pair_planes(files, (found for found in files() if is_sidecar(found.path)))
            return
        for below, listed in storage.list_folders(self._to_uri(folder)):
            within = "/".join(part for part in (folder, below) if part)
            found = [_make_found(f"{within}/{name}" if within else name, size) for name, size in listed]
            if sidecars := [file for file in found if is_sidecar(file.path)]:
                yield from pair_planes(found.__iter__, sidecars, self._photos_beside(within))
            else:
                yield from ((file, ()) for file in found)

    def _photos_beside(self, folder: str) -> Iterator[str]:
        """Yield paths of the files in the folders that hold the photos of a folder `masks`."""
        for beside, other in photo_folders(folder):
            if beside not in self._is_there:  # each is a request on a store, and `masks` may have many folders
                self._is_there[beside] = storage.exists(self._to_uri(beside))
            if self._is_there[beside] and storage.exists(self._to_uri(other)):
                _, listed = next(storage.list_folders(self._to_uri(other)))
                yield from (f"{other}/{name}" if other else name for name, _ in listed if is_possible_photo(name))

    def list_archives(self) -> list[str]:
        """URIs of the archives that stand for folders and files of the source, each once."""
        held = [path for archive in self._archives for path in archive.holds] if self._whole is None else [""]
        return list(dict.fromkeys(place[0] for path in held if (place := self._find_archive(path)) is not None))

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder; an archive is read for it."""
        if (place := self._find_archive(path)) is None:
            return storage.exists(self._to_uri(path))
        return any(_is_in(found.path, path) for found in self._files_of(*place))

    def find_first(self, *paths: str) -> str | None:
        """The first of the paths that exists, None if none does."""
        return next((path for path in paths if self.exists(path)), None)

    def require(self, *paths: str, needs: str) -> None:
        """Raise UsageError, with what the source needs, unless all of the paths exist."""
        for path in paths:
            if not self.exists(path):
                raise UsageError(f"no {path} under {self.root}: --root must hold {needs}")

    def read_file(self, path: str) -> bytes:
        """Bytes of a small file.

        Raises FileNotFoundError where it is missing, OSError and CorruptDataError where it cannot be read.
        """
        if (place := self._find_archive(path)) is None:
            return storage.read_bytes(self._to_uri(path))
        for found in self._files_of(*place):
            if found.path == path and found.refusal is None:
                return read_photo(self.root, found)
        raise FileNotFoundError(f"no {path} in {place[0]}")

    def lines(self, path: str) -> Iterator[str]:
        """Yield the lines of a text file, without line ends and without blank lines.

        Raises UnicodeDecodeError where it is no text.
        """
        fs, location = storage.locate(self._to_uri(path))
        packed = self._find_archive(path) is not None
        with io.BytesIO(self.read_file(path)) if packed else fs.open(location, "rb") as raw:
            for line in io.TextIOWrapper(raw, _ENCODING):
                if line.strip():
                    yield line.rstrip("\r\n")

    def _to_uri(self, path: str) -> str:
        return storage.join(self.root, path) if path else self.root

    def _find_archive(self, path: str) -> tuple[str, Archive] | None:
        """URI and description of the archive that holds the path, None if no archive does."""
        if self._whole is not None:
            return self.root, self._whole
        if not storage.exists(self._to_uri(path)):
            for archive in self._archives:
                if any(_is_in(path, held) for held in archive.holds):
                    uris = (storage.join(self.root, archive.name + suffix) for suffix in SUFFIXES)
                    if (uri := next(filter(storage.exists, uris), None)) is not None:
                        return uri, archive
        return None

    def _files_of(self, uri: str, archive: Archive) -> Iterator[Found]:
        """Files of an archive; one that cannot be sought is spooled at the first call, and never read again."""
        if is_seekable(uri):
            return (file.found for file in _open_files(uri, archive))
        if uri not in self._spooled:
            self._spooled[uri] = SpooledArchive(_open_files(uri, archive), self._spool_to, self._numbers)
        return iter(self._spooled[uri])


def _make_found(path: str, size: int) -> Found:
    """A file outside archives, refused where it is one of an operating system."""
    return Found(path, size, refusal=find_system_file_reason(path))


def _open_files(uri: str, archive: Archive) -> Iterator[ArchiveFile]:
    """Yield the files of an archive under their paths below the root; those of operating systems are refused."""
    for file in open_archive(uri):
        found = file.found
        path = f"{archive.below}/{found.path}" if archive.below else found.path
        refusal = found.refusal or find_system_file_reason(found.path)
        yield replace(file, found=replace(found, path=path, place=None if refusal else found.place, refusal=refusal))


def _is_in(path: str, folder: str) -> bool:
    """Whether the path is the folder or below it; a hostile path counts as if it had no dots."""
    if not folder or path == folder or path.startswith(f"{folder}/"):
        return True
    parts, wanted = [part for part in path.split("/") if part not in ("", ".", "..")], folder.split("/")
    return parts[: len(wanted)] == wanted
