"""A source's root as a tree of files, whether they lie in a folder or in the archives that the dataset is published as.

In: a root URI: a folder, an archive, or a folder that holds archives. Out: a stream of `Found`, small lists, and what
is there. A file of its own so that no source knows which of the three it reads.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Final

from infra import storage
from pipelines.data.archive.open import SUFFIXES, Packed, is_archive, is_seekable, open_archive
from pipelines.data.archive.read import read_photo
from pipelines.data.archive.sidecars import is_apart, may_have_masks, paired
from pipelines.data.archive.spool import SpooledArchive
from pipelines.data.archive.system_files import find_system_file_reason
from pipelines.data.image.mask_files import photo_folders
from pipelines.records import Found, Plane, UsageError

_ENCODING: Final = "utf-8-sig"
"""UTF-8, with or without a byte order mark."""


@dataclass(frozen=True)
class Archive:
    """An archive of a published dataset that may lie under the root in place of what it holds."""

    name: str
    """Without its suffix."""
    holds: tuple[str, ...]
    """Folders and files that the source looks for in it, relative to the root."""
    below: str = ""
    """The folder that its members count as lying in, where their names do not carry one."""


class Tree:
    """The files under a root; what must be unpacked of an archive is spilled into containers under `spill_to`."""

    def __init__(self, root: str, archives: tuple[Archive, ...], spill_to: str) -> None:
        self.root = storage.to_absolute(root)
        self._archives = archives
        self._spill_to = spill_to
        self._spilled: dict[str, SpooledArchive] = {}
        self._numbers = count()
        self._is_there: dict[str, bool] = {}
        fs, path = storage.locate(self.root)
        self._whole = Archive("", ("",)) if is_archive(self.root) and fs.isfile(path) else None

    def files(self, folder: str = "") -> Iterator[Found]:
        """Every file below the folder, which must be there; paths are relative to the root.

        Of a folder in byte order, folder by folder; of an archive in its order, which is read through once.
        """
        if (place := self._archive_of(folder)) is None:
            for name, size in storage.list_files(self._uri(folder)):
                yield _found(f"{folder}/{name}" if folder else name, size)
            return
        yield from (found for found in self._found_in(*place) if _lies_in(found.path, folder))

    def pictures(self, folder: str = "") -> Iterator[tuple[Found, tuple[Plane, ...]]]:
        """The files below the folder but for the maps among them, each with the maps that lie beside it; and, refused,
        the maps that lie beside none and the masks of photos. In the order of `files`, or nearly.
        """
        if self._archive_of(folder) is not None:
            files = partial(self.files, folder)
            yield from paired(files, (found for found in files() if is_apart(found.path)))
            return
        for below, listed in storage.list_folders(self._uri(folder)):
            within = "/".join(part for part in (folder, below) if part)
            found = [_found(f"{within}/{name}" if within else name, size) for name, size in listed]
            if apart := [file for file in found if is_apart(file.path)]:
                yield from paired(found.__iter__, apart, self._photos_beside(within))
            else:
                yield from ((file, ()) for file in found)

    def _photos_beside(self, folder: str) -> Iterator[str]:
        """Paths of the files in those folders that hold the photos of a folder `masks`."""
        for beside, other in photo_folders(folder):
            if beside not in self._is_there:  # on a store each is a request, and folders below `masks` may be many
                self._is_there[beside] = storage.exists(self._uri(beside))
            if self._is_there[beside] and storage.exists(self._uri(other)):
                _, listed = next(storage.list_folders(self._uri(other)))
                yield from (f"{other}/{name}" if other else name for name, _ in listed if may_have_masks(name))

    def archives(self) -> list[str]:
        """URIs of the archives that stand for folders and files of the source, each once."""
        held = [path for archive in self._archives for path in archive.holds] if self._whole is None else [""]
        return list(dict.fromkeys(place[0] for path in held if (place := self._archive_of(path)) is not None))

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder; an archive is read through for it."""
        if (place := self._archive_of(path)) is None:
            return storage.exists(self._uri(path))
        return any(_lies_in(found.path, path) for found in self._found_in(*place))

    def first(self, *paths: str) -> str | None:
        """The first of the paths that is there."""
        return next((path for path in paths if self.exists(path)), None)

    def require(self, *paths: str, needs: str) -> None:
        """Raises UsageError, saying what the source needs, unless all of the paths are there."""
        for path in paths:
            if not self.exists(path):
                raise UsageError(f"no {path} under {self.root}: --root must hold {needs}")

    def read(self, path: str) -> bytes:
        """A small file.

        Raises FileNotFoundError where it is not there, OSError and CorruptDataError where it cannot be read.
        """
        if (place := self._archive_of(path)) is None:
            return storage.read_bytes(self._uri(path))
        for found in self._found_in(*place):
            if found.path == path and found.refusal is None:
                return read_photo(self.root, found)
        raise FileNotFoundError(f"no {path} in {place[0]}")

    def lines(self, path: str) -> Iterator[str]:
        """The lines of a text file without their ends and without blank ones; a file of its own is read as it goes.

        Raises UnicodeDecodeError where it is no text.
        """
        fs, location = storage.locate(self._uri(path))
        packed = self._archive_of(path) is not None
        with io.BytesIO(self.read(path)) if packed else fs.open(location, "rb") as raw:
            for line in io.TextIOWrapper(raw, _ENCODING):
                if line.strip():
                    yield line.rstrip("\r\n")

    def _uri(self, path: str) -> str:
        return storage.join(self.root, path) if path else self.root

    def _archive_of(self, path: str) -> tuple[str, Archive] | None:
        """The archive that holds the path, None where it lies in a folder if anywhere."""
        if self._whole is not None:
            return self.root, self._whole
        if not storage.exists(self._uri(path)):
            for archive in self._archives:
                if any(_lies_in(path, held) for held in archive.holds):
                    uris = (storage.join(self.root, archive.name + suffix) for suffix in SUFFIXES)
                    if (uri := next(filter(storage.exists, uris), None)) is not None:
                        return uri, archive
        return None

    def _found_in(self, uri: str, archive: Archive) -> Iterator[Found]:
        """The files of an archive; one that cannot be sought is spilled at the first question, and never read again."""
        if is_seekable(uri):
            return (file.found for file in _opened(uri, archive))
        if uri not in self._spilled:
            self._spilled[uri] = SpooledArchive(_opened(uri, archive), self._spill_to, self._numbers)
        return iter(self._spilled[uri])


def _found(path: str, size: int) -> Found:
    """A file of its own, refused where it is one of an operating system."""
    return Found(path, size, refusal=find_system_file_reason(path))


def _opened(uri: str, archive: Archive) -> Iterator[Packed]:
    """The files of an archive under the paths that they count as; those of operating systems are refused."""
    for file in open_archive(uri):
        found = file.found
        path = f"{archive.below}/{found.path}" if archive.below else found.path
        refusal = found.refusal or find_system_file_reason(found.path)
        yield replace(file, found=replace(found, path=path, place=None if refusal else found.place, refusal=refusal))


def _lies_in(path: str, folder: str) -> bool:
    """Whether the path is the folder or below it; a hostile path counts as if it had no dots."""
    if not folder or path == folder or path.startswith(f"{folder}/"):
        return True
    parts, wanted = [part for part in path.split("/") if part not in ("", ".", "..")], folder.split("/")
    return parts[: len(wanted)] == wanted
