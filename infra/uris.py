"""Checks of URIs: empty, malformed, of an unknown scheme, below a file, or read-only.

In: a URI as a user gave it. Out: nothing, or InvalidURIError. An empty URI must be refused, for it becomes the root of
the file system as soon as a path is joined to it.
"""

import os
import re
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Final

from fsspec.registry import known_implementations, registry

from infra.credentials import has_password, hide_credentials

_LIKE_A_SCHEME: Final = re.compile(r"[A-Za-z][\w+.-]*(::[\w+.-]+)*:/")
SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*)://")
LOCAL: Final = ("file", "local")
_WITH_KEYS: Final = ("s3", "s3a")
"""Stores that read keys from the environment, and would read them from a URI."""
_READ_ONLY: Final = frozenset(
    {"http", "https", "data", "gist", "github", "git", "zip", "tar", "libarchive", "reference"}
    | {"simplecache", "filecache", "blockcache", "cached", "dir", "generic", "asyncwrapper"}
)
"""Read-only servers, archives, and fsspec's wrappers of other stores."""
_EXAMPLE: Final = "give a folder or a URI such as s3://bucket/folder"


class InvalidURIError(ValueError):
    """A URI that names no storage, or no possible folder: says which, and what to give instead."""


@lru_cache(maxsize=1024)
def refuse_invalid_uri(uri: str) -> None:
    """Raise InvalidURIError for a URI that is empty, malformed, or of an unknown scheme."""
    if not uri.strip():
        raise InvalidURIError(f"a path or URI is empty: {_EXAMPLE}")
    scheme = SCHEME.match(uri)
    if scheme and scheme[1] in _WITH_KEYS and has_password(uri):
        raise InvalidURIError(
            f"{hide_credentials(uri)} holds a key, and URIs are stored and shown: remove it, and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if scheme is None and _LIKE_A_SCHEME.match(uri):
        raise InvalidURIError(f"{uri} is neither a path nor a URI with one lower-case scheme: {_EXAMPLE}")
    if scheme and scheme[1] not in LOCAL and not uri[scheme.end() :].strip("/ "):
        raise InvalidURIError(f"{uri} names no bucket or folder: {_EXAMPLE}")
    if scheme and not (scheme[1] in registry or scheme[1] in known_implementations):
        raise InvalidURIError(f"{uri} has the unknown scheme {scheme[0]}: {_EXAMPLE}")


def refuse_read_only(uri: str) -> None:
    """Raise InvalidURIError for an invalid URI, and for a read-only one such as a web server or an archive."""
    refuse_invalid_uri(uri)
    scheme = SCHEME.match(uri)
    if scheme and scheme[1] in _READ_ONLY:
        raise InvalidURIError(f"{uri} is read-only, as all of {scheme[1]}://: {_EXAMPLE}")


def refuse_file(folder: Path) -> None:
    """Raise InvalidURIError if the folder, or one above it, is a file."""
    for part in (folder, *folder.parents):
        if part.exists():
            if not part.is_dir():
                raise InvalidURIError(f"{folder} cannot be a folder: {part} is a file; give another folder")
            return


def refuse_unwritable(folder: Path) -> None:
    """Raise InvalidURIError as `refuse_file` does, and for a folder that takes no files of this user."""
    refuse_file(folder)
    part = next(part for part in (folder, *folder.parents) if part.exists())
    if not os.access(part, os.W_OK | os.X_OK):
        raise InvalidURIError(f"cannot write to {folder}: {part} is read-only for this user; give another folder")
    try:
        tempfile.TemporaryFile(dir=part).close()
    except OSError as fault:  # as in /proc
        raise InvalidURIError(
            f"cannot write to {folder}: {part} takes no files ({fault.strerror}); give another folder"
        ) from None
