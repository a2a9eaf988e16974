"""Files by URI, on anything fsspec supports: local paths, s3://, memory://.

A published file appears whole or not at all: on a local disk a temporary file is renamed, on an object store one put
writes it. No other module distinguishes the two.
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
from infra.uris import LOCAL, SCHEME, InvalidURIError, refuse_invalid_uri, refuse_read_only, refuse_unwritable

ASIDE = ".aside-"
_FOLDERS_AHEAD: Final = 16
_UPLOAD: Final = {"chunksize": 16 << 20, "max_concurrency": 2}
"""Limits of s3fs's memory for an upload: by default it would hold a whole shard."""

Files = list[tuple[str, int]]
"""Names and sizes in bytes."""
Entries = tuple[Files, list[str]]
"""Files of a folder, and the names of its folders; both in byte order."""


class NotAFileError(OSError):
    """A path that is neither a file nor a link to one."""


def join(uri: str, *parts: str) -> str:
    """URI of a path below `uri`; raises InvalidURIError for an invalid `uri`."""
    refuse_invalid_uri(uri)
    return "/".join([uri.rstrip("/"), *parts])


def locate(uri: str) -> tuple[AbstractFileSystem, str]:
    """File system of a URI and the path on it; a plain path is local and becomes absolute, whatever it holds."""
    refuse_invalid_uri(uri)
    if not SCHEME.match(uri):
        return LocalFileSystem(), str(Path(uri).absolute())
    load_secrets()
    try:
        fs, path = url_to_fs(uri, use_listings_cache=False)  # files of other processes must be seen
    except (ImportError, ValueError) as fault:  # the store's package is missing, or a chain of schemes is odd
        raise InvalidURIError(f"could not open {uri}: {fault}") from None
    return fs, str(path)


def _locate_writable(uri: str) -> tuple[AbstractFileSystem, str]:
    refuse_read_only(uri)
    return locate(uri)


def read_below(root: str, path: str) -> bytes:
    """Bytes of a file by its path under a root, which is never read as a URI, whatever it holds.

    Raises NotAFileError for a pipe, a device or a folder, which need not have an end.
    """
    if (folder := _find_local_root(root)) is not None:
        return _read_regular(f"{folder}/{path}")
    fs, base = locate(root)
    with translate_faults(fs, f"{root}/{path}"):
        return bytes(fs.cat_file(f"{base.rstrip('/')}/{path}"))


@lru_cache(maxsize=16)
def _find_local_root(root: str) -> str | None:
    return None if SCHEME.match(root) else root.rstrip("/")


def _read_regular(name: str) -> bytes:
    """Bytes of a local file, by system calls alone: fsspec costs more than the digest of a photo."""
    file = os.open(name, os.O_RDONLY | os.O_NONBLOCK)  # otherwise open waits for the writer of a pipe
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise NotAFileError(f"{name} is not a regular file")
        data = os.read(file, status.st_size + 1)
        while len(data) != status.st_size and (more := os.read(file, 1 << 20)):  # it grew, or is longer than one read
            data += more
        return data
    finally:
        os.close(file)


def to_local_path(uri: str) -> Path | None:
    """Path of a local URI, None for any other."""
    fs, path = locate(uri)
    return Path(path) if isinstance(fs, LocalFileSystem) else None


def to_writable_folder(uri: str) -> Path | None:
    """Path of a local folder, None on a store; raises InvalidURIError for a file and for what takes no files."""
    refuse_read_only(uri)
    if (folder := to_local_path(uri)) is not None:
        refuse_unwritable(folder)
    return folder


def to_absolute(uri: str) -> str:
    """URI that does not depend on the working folder: a local one becomes an absolute path."""
    scheme = SCHEME.match(uri)
    return uri if scheme and scheme[1] not in LOCAL else locate(uri)[1]


def exists(uri: str) -> bool:
    """Whether the file or folder exists."""
    fs, path = locate(uri)
    with translate_faults(fs, uri):
        return bool(fs.exists(path))


def read_bytes(uri: str) -> bytes:
    """Bytes of the whole file; FileNotFoundError names the URI."""
    fs, path = locate(uri)
    try:
        with translate_faults(fs, uri):
            return bytes(fs.cat_file(path))
    except FileNotFoundError:
        raise FileNotFoundError(f"no file at {uri}") from None


def read_range(uri: str, start: int, end: int) -> bytes:
    """Bytes [start, end) of a file."""
    fs, path = locate(uri)
    with translate_faults(fs, uri):
        return bytes(fs.cat_file(path, start=start, end=end))


def read_range_once(uri: str, start: int, end: int) -> bytes:
    """Bytes [start, end) of a file, by one request: the client does not retry, so that the caller can report it."""
    if not uri.startswith("s3://"):
        return read_range(uri, start, end)
    fs, path = url_to_fs(uri, config_kwargs={"retries": {"total_max_attempts": 1}})
    fs.retries = 1  # s3fs has its own retries on top of botocore's
    with translate_faults(fs, uri):
        return bytes(fs.cat_file(path, start=start, end=end))


def publish(uri: str, data: bytes) -> None:
    """Write the file at once and whole, over an older one; raises InvalidURIError for a read-only URI."""
    fs, path = _locate_writable(uri)
    with translate_faults(fs, uri):
        if isinstance(fs, LocalFileSystem):
            with _write_aside(Path(path)) as aside:
                aside.write_bytes(data)
        else:
            fs.pipe_file(path, data)


def create(uri: str, data: bytes) -> bool:
    """Publish the file unless it exists, and return whether this call created it.

    Of several calls at once one wins: on a local disk by a link, on S3 by a conditional put. For a store without
    conditions see `create_remote`.
    """
    fs, path = _locate_writable(uri)
    with translate_faults(fs, uri):
        return _link_new(Path(path), data) if isinstance(fs, LocalFileSystem) else create_remote(fs, path, data)


def publish_file(uri: str, source: Path) -> None:
    """Publish a local file that is not needed afterwards: on the same disk it is moved, not copied."""
    fs, path = _locate_writable(uri)
    with translate_faults(fs, uri):
        if isinstance(fs, LocalFileSystem):
            with _write_aside(Path(path)) as aside:
                shutil.move(source, aside)
        else:
            fs.put_file(str(source), path, **(_UPLOAD if "s3" in fs.protocol else {}))


def list_files(uri: str) -> Iterator[tuple[str, int]]:
    """Yield every file below the folder as (relative path, size in bytes), in the order of `list_folders`."""
    for folder, files in list_folders(uri):
        below = f"{folder}/" if folder else ""
        yield from ((below + name, size) for name, size in files)


def list_folders(uri: str) -> Iterator[tuple[str, Files]]:
    """Yield (relative path, files) of the folder itself, as "", and of each below it, all names in byte order.

    Links to folders are not followed, temporary files are left out. Folders are listed ahead of their turn, several at
    once: on an object store each costs a request.
    """
    fs, root = locate(uri)
    list_folder = _list_on_disk if isinstance(fs, LocalFileSystem) else partial(_list_on_store, fs)
    with ThreadPoolExecutor(_FOLDERS_AHEAD) as pool:

        def ask(below: str) -> Future[Entries]:
            return pool.submit(list_folder, f"{root.rstrip('/')}/{below}".rstrip("/"))

        try:
            yield from _walk(ask, "", ask(""))
        finally:
            pool.shutdown(cancel_futures=True)  # a caller that stops early waits for no folder


def remove(uri: str) -> None:
    """Remove a file or a folder with all in it, if it exists."""
    fs, path = locate(uri)
    with translate_faults(fs, uri), suppress(FileNotFoundError):  # another process may remove it too
        if fs.exists(path):
            fs.rm(path, recursive=True)


def remove_empty(uri: str) -> None:
    """Remove a local folder if it is empty; object stores have no empty folders."""
    folder = to_local_path(uri)
    if folder is not None:
        with suppress(OSError):  # it is not empty, or does not exist
            folder.rmdir()


def sweep(uri: str) -> None:
    """Remove temporary files of killed processes in a local folder, not below it."""
    folder = to_local_path(uri)
    for aside in list(folder.glob(f"{ASIDE}*")) if folder else []:
        remove(str(aside))


def digest_file(uri: str, digest: Any) -> int:
    """Feed the file to a hashlib digest, a megabyte at a time, and return its size in bytes."""
    fs, path = locate(uri)
    size = 0
    with translate_faults(fs, uri), fs.open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return size


@contextmanager
def scratch_folder(uri: str) -> Iterator[Path]:
    """Yield a temporary local folder, removed afterwards; inside a local `uri`, else in the system's."""
    here = to_local_path(uri)
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


def _list_on_store(fs: AbstractFileSystem, folder: str) -> Entries:
    """Entries of a folder of a store; all links count as files, and pipes and the like are left out."""
    files, folders = [], []
    with translate_faults(fs, folder):
        entries = fs.ls(folder, detail=True)
    for entry in entries:
        name = entry["name"].rstrip("/").rpartition("/")[2]
        if name.startswith(ASIDE) or not name or entry["name"].rstrip("/") == folder:
            continue  # the last is a folder's own marker, as object stores have it
        if entry["type"] == "directory" and not entry.get("islink"):
            folders.append(name)
        elif entry["type"] == "file" or entry.get("islink"):
            files.append((name, int(entry["size"] or 0)))
    return _sort_bytewise(files, folders)


def _list_on_disk(folder: str) -> Entries:
    """Entries of a local folder, by system calls: fsspec makes a dict of twenty fields of each file."""
    files, folders = [], []
    with suppress(NotADirectoryError), os.scandir(folder or "/") as entries:  # a file has no entries
        for entry in entries:
            if entry.name.startswith(ASIDE):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.is_symlink() or entry.is_file():
                files.append((entry.name, _read_size(entry)))
    return _sort_bytewise(files, folders)


def _read_size(entry: "os.DirEntry[str]") -> int:
    """Size of a file or of a link's target in bytes, 0 for a broken link."""
    try:
        return entry.stat().st_size
    except OSError:
        if entry.is_symlink():
            return 0
        raise


def _sort_bytewise(files: Files, folders: list[str]) -> Entries:
    return sorted(files, key=lambda file: os.fsencode(file[0])), sorted(folders, key=os.fsencode)


def _link_new(path: Path, data: bytes) -> bool:
    """Create a file that appears whole, and return whether it did not exist before."""
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
def _write_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; synchronize and rename it after the block."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give a file to write to")
    if path.exists() and not path.is_file():
        raise NotAFileError(f"{path} is a device or the like: give a file to write to")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"could not write {path}: a part of its path is a file; give another path") from None
    aside = path.parent / f"{ASIDE}{secrets.token_hex(6)}"
    try:
        yield aside
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
