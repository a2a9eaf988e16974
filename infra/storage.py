"""Files by URI, anywhere fsspec reaches: local paths, s3://, memory://.

Whatever is published appears at once and whole: locally by a file written aside and renamed, on object stores by one
put. A file of its own because nobody else may know which of the two it is.
"""

import os
import secrets
import shutil
import stat
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from infra.credentials import load_secrets
from infra.object_store import create_remote, translate_faults
from infra.uris import LOCAL, SCHEME, InvalidURIError, refuse_file, refuse_invalid_uri, refuse_read_only

ASIDE = ".aside-"
_FOLDERS_AHEAD: Final = 16
_UPLOAD: Final = {"chunksize": 16 << 20, "max_concurrency": 2}
"""What s3fs holds of a file on its way up: by its own choice it would be all of a shard."""

Files = list[tuple[str, int]]
"""Names and sizes in bytes."""
Entries = tuple[Files, list[str]]
"""What a folder holds itself: files, and the names of folders; both in byte order."""


class NotAFileError(OSError):
    """What stands under a name is neither a file nor a link to one."""


def join(uri: str, *parts: str) -> str:
    """The URI of something below `uri`; raises InvalidURIError where that is none."""
    refuse_invalid_uri(uri)
    return "/".join([uri.rstrip("/"), *parts])


def locate(uri: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a URI and the path on it; a plain path is local and becomes absolute, whatever it holds."""
    refuse_invalid_uri(uri)
    if not SCHEME.match(uri):
        return LocalFileSystem(), str(Path(uri).absolute())
    load_secrets()
    try:
        fs, path = url_to_fs(uri, use_listings_cache=False)  # what another process wrote must be seen
    except (ImportError, ValueError) as fault:  # of a store whose package is not there, and of an odd chain
        raise InvalidURIError(f"{uri} cannot be reached: {fault}") from None
    return fs, str(path)


def _writable(uri: str) -> tuple[AbstractFileSystem, str]:
    refuse_read_only(uri)
    return locate(uri)


def read_below(root: str, path: str) -> bytes:
    """A file by its path under a root, whatever its name holds: it is a name here and never a URI.

    Raises NotAFileError for what need not have an end: a pipe, a device, a folder.
    """
    if (folder := _local_folder(root)) is not None:
        return _read_regular(f"{folder}/{path}")
    fs, base = locate(root)
    with translate_faults(fs, f"{root}/{path}"):
        return bytes(fs.cat_file(f"{base.rstrip('/')}/{path}"))


@lru_cache(maxsize=16)
def _local_folder(root: str) -> str | None:
    return None if SCHEME.match(root) else root.rstrip("/")


def _read_regular(name: str) -> bytes:
    """A local file by system calls alone: fsspec costs more than the digest of a photo, and there are many photos."""
    file = os.open(name, os.O_RDONLY | os.O_NONBLOCK)  # who opens a pipe waits for its writer
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise NotAFileError(f"{name} is no regular file")
        data = os.read(file, status.st_size + 1)
        while len(data) != status.st_size and (more := os.read(file, 1 << 20)):  # it grew, or is longer than one read
            data += more
        return data
    finally:
        os.close(file)


def local_path(uri: str) -> Path | None:
    """The path of a local URI, None for any other."""
    fs, path = locate(uri)
    return Path(path) if isinstance(fs, LocalFileSystem) else None


def folder_to_write(uri: str) -> Path | None:
    """The path of a local folder, None on a store.

    Raises InvalidURIError where none can be written: a file, or only read.
    """
    refuse_read_only(uri)
    if (folder := local_path(uri)) is not None:
        refuse_file(folder)
    return folder


def absolute(uri: str) -> str:
    """The URI as every process means it, wherever it stands: a local one becomes an absolute path."""
    scheme = SCHEME.match(uri)
    return uri if scheme and scheme[1] not in LOCAL else locate(uri)[1]


def exists(uri: str) -> bool:
    """Whether a file or folder is there."""
    fs, path = locate(uri)
    with translate_faults(fs, uri):
        return bool(fs.exists(path))


def read_bytes(uri: str) -> bytes:
    """The whole file; FileNotFoundError names the URI."""
    fs, path = locate(uri)
    try:
        with translate_faults(fs, uri):
            return bytes(fs.cat_file(path))
    except FileNotFoundError:
        raise FileNotFoundError(f"no file at {uri}") from None


def read_range(uri: str, start: int, end: int) -> bytes:
    """The bytes [start, end) of a file."""
    fs, path = locate(uri)
    with translate_faults(fs, uri):
        return bytes(fs.cat_file(path, start=start, end=end))


def read_range_once(uri: str, start: int, end: int) -> bytes:
    """As `read_range`, by one request: the client does not try again in silence, so that who asks can tell of it."""
    if not uri.startswith("s3://"):
        return read_range(uri, start, end)
    fs, path = url_to_fs(uri, config_kwargs={"retries": {"total_max_attempts": 1}})
    fs.retries = 1  # s3fs has its own tries above those of botocore
    with translate_faults(fs, uri):
        return bytes(fs.cat_file(path, start=start, end=end))


def publish(uri: str, data: bytes) -> None:
    """Writes the file at once and whole, over an older one if there is one.

    Raises InvalidURIError where none is written.
    """
    fs, path = _writable(uri)
    with translate_faults(fs, uri):
        if isinstance(fs, LocalFileSystem):
            with _written_aside(Path(path)) as aside:
                aside.write_bytes(data)
        else:
            fs.pipe_file(path, data)


def create(uri: str, data: bytes) -> bool:
    """As `publish`, but leaves a file that is there as it is; whether this call made it.

    Of several at the same moment one wins: on a local disk by a link, on S3 by a conditional put. For a store that
    knows no condition see `create_remote`.
    """
    fs, path = _writable(uri)
    with translate_faults(fs, uri):
        return _link_new(Path(path), data) if isinstance(fs, LocalFileSystem) else create_remote(fs, path, data)


def publish_file(uri: str, source: Path) -> None:
    """As `publish`, from a local file that nobody needs afterwards: on the same disk it is moved and not copied."""
    fs, path = _writable(uri)
    with translate_faults(fs, uri):
        if isinstance(fs, LocalFileSystem):
            with _written_aside(Path(path)) as aside:
                shutil.move(source, aside)
        else:
            fs.put_file(str(source), path, **(_UPLOAD if "s3" in fs.protocol else {}))


def list_files(uri: str) -> Iterator[tuple[str, int]]:
    """Every file below the folder as (path relative to it, size in bytes), in the order of `list_folders`."""
    for folder, files in list_folders(uri):
        below = f"{folder}/" if folder else ""
        yield from ((below + name, size) for name, size in files)


def list_folders(uri: str) -> Iterator[tuple[str, Files]]:
    """The folder itself, as "", and each below it: (path relative to it, its files), all names in byte order.

    A link to a folder is not followed; what is written aside is passed over. Folders are asked for ahead of their turn,
    some at once: on an object store each costs a request.
    """
    fs, root = locate(uri)
    look = _look_on_disk if isinstance(fs, LocalFileSystem) else partial(_look, fs)
    with ThreadPoolExecutor(_FOLDERS_AHEAD) as pool:

        def ask(below: str) -> Future[Entries]:
            return pool.submit(look, f"{root.rstrip('/')}/{below}".rstrip("/"))

        try:
            yield from _walk(ask, "", ask(""))
        finally:
            pool.shutdown(cancel_futures=True)  # whoever stops early waits for no folder


def remove(uri: str) -> None:
    """Removes a file or a folder with all in it; nothing there, or no longer there, is no fault."""
    fs, path = locate(uri)
    with translate_faults(fs, uri), suppress(FileNotFoundError):  # another process removes it too
        if fs.exists(path):
            fs.rm(path, recursive=True)


def remove_empty(uri: str) -> None:
    """Removes a local folder if nothing is in it; on an object store there is no such thing."""
    folder = local_path(uri)
    if folder is not None:
        with suppress(OSError):  # it is not empty, or not there
            folder.rmdir()


def sweep(uri: str) -> None:
    """Removes what killed processes had written aside in a local folder, not in those below it."""
    folder = local_path(uri)
    for aside in list(folder.glob(f"{ASIDE}*")) if folder else []:
        remove(str(aside))


def digest_file(uri: str, digest: Any) -> int:
    """Feeds the file to a hashlib digest, a megabyte at a time; returns its size in bytes."""
    fs, path = locate(uri)
    size = 0
    with translate_faults(fs, uri), fs.open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return size


@contextmanager
def scratch_folder(uri: str) -> Iterator[Path]:
    """A local folder for work in progress, gone afterwards; beside a local `uri`, else in the temporary folder."""
    here = local_path(uri)
    if here is not None:
        here.mkdir(parents=True, exist_ok=True)
    with (
        translate_faults(LocalFileSystem(), uri),
        tempfile.TemporaryDirectory(prefix=ASIDE, dir=here, ignore_cleanup_errors=True) as folder,
    ):
        yield Path(folder)


def _walk(ask: Callable[[str], Future[Entries]], below: str, asked: Future[Entries]) -> Iterator[tuple[str, Files]]:
    files, folders = asked.result()
    yield below, files
    del files, asked  # a folder may have millions
    paths = [f"{below}/{name}" if below else name for name in folders]
    waiting, ahead = map(ask, paths), deque[Future[Entries]]()
    for path in paths:
        ahead.extend(islice(waiting, _FOLDERS_AHEAD - len(ahead)))
        yield from _walk(ask, path, ahead.popleft())


def _look(fs: AbstractFileSystem, folder: str) -> Entries:
    """What a folder of a store holds; links count as files, be it to a folder, and pipes and the like as nothing."""
    files, folders = [], []
    with translate_faults(fs, folder):
        listed = fs.ls(folder, detail=True)
    for entry in listed:
        name = entry["name"].rstrip("/").rpartition("/")[2]
        if name.startswith(ASIDE) or not name or entry["name"].rstrip("/") == folder:
            continue  # the last: a folder's own marker, as object stores have it
        if entry["type"] == "directory" and not entry.get("islink"):
            folders.append(name)
        elif entry["type"] == "file" or entry.get("islink"):
            files.append((name, int(entry["size"] or 0)))
    return _in_byte_order(files, folders)


def _look_on_disk(folder: str) -> Entries:
    """As `_look`, by system calls: fsspec makes a dict of twenty fields of each file."""
    files, folders = [], []
    with suppress(NotADirectoryError), os.scandir(folder or "/") as entries:  # a file has no files below it
        for entry in entries:
            if entry.name.startswith(ASIDE):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.is_symlink() or entry.is_file():
                files.append((entry.name, _size(entry)))
    return _in_byte_order(files, folders)


def _size(entry: "os.DirEntry[str]") -> int:
    """Of a file, or of what a link leads to, 0 where it leads nowhere."""
    try:
        return entry.stat().st_size
    except OSError:
        if entry.is_symlink():
            return 0
        raise


def _in_byte_order(files: Files, folders: list[str]) -> Entries:
    return sorted(files, key=lambda file: os.fsencode(file[0])), sorted(folders, key=os.fsencode)


def _link_new(path: Path, data: bytes) -> bool:
    """A file that appears whole, and only where none is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.parent / f"{ASIDE}{secrets.token_hex(6)}"
    try:
        with aside.open("wb") as stream:
            stream.write(data)
            os.fsync(stream.fileno())
        os.link(aside, path)
    except FileExistsError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    return True


@contextmanager
def _written_aside(path: Path) -> Iterator[Path]:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file to write to")
    if path.exists() and not path.is_file():
        raise NotAFileError(f"{path} is a device or the like: name a file to write to")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"{path} cannot be written: a part of its path is a file and no folder") from None
    aside = path.parent / f"{ASIDE}{secrets.token_hex(6)}"
    try:
        yield aside
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
