"""URIs that can be no place of ours, refused in words: empty, of an unknown scheme, under a file, read-only.

In: a URI as a user gave it. Out: nothing, or InvalidURIError. A file of its own because an empty name would be the root
of the file system as soon as something is joined to it.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from fsspec.registry import known_implementations, registry

from infra.credentials import has_password, hide_credentials

_LIKE_A_SCHEME: Final = re.compile(r"[A-Za-z][\w+.-]*(::[\w+.-]+)*:/")
SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*)://")
LOCAL: Final = ("file", "local")
_WITH_KEYS: Final = ("s3", "s3a")
"""Stores that take keys from the environment, and would take them from a URI."""
_READ_ONLY: Final = frozenset(
    {"http", "https", "data", "gist", "github", "git", "zip", "tar", "libarchive", "reference"}
    | {"simplecache", "filecache", "blockcache", "cached", "dir", "generic", "asyncwrapper"}
)
"""Servers that only give, archives, and what fsspec puts before another store."""


class InvalidURIError(ValueError):
    """A URI that names no storage, or a folder that cannot be: says which, and what to name instead."""


@lru_cache(maxsize=1024)
def refuse_invalid_uri(uri: str) -> None:
    """Raise InvalidURIError for an empty URI, an unknown scheme, and a malformed one."""
    if not uri.strip():
        raise InvalidURIError(f"a place is {uri!r}: name a folder, or one on a store, as s3://bucket/folder")
    scheme = SCHEME.match(uri)
    if scheme and scheme[1] in _WITH_KEYS and has_password(uri):
        raise InvalidURIError(
            f"{hide_credentials(uri)} was given with a key, and URIs are kept and shown: give it without, and the key "
            "in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if scheme is None and _LIKE_A_SCHEME.match(uri):
        raise InvalidURIError(
            f"{uri} is neither a path nor a URI: schemes are in small letters, one alone, as s3://bucket/folder"
        )
    if scheme and scheme[1] not in LOCAL and not uri[scheme.end() :].strip("/ "):
        raise InvalidURIError(f"{uri} names nothing on its store: name a folder there, as s3://bucket/folder")
    if scheme and not (scheme[1] in registry or scheme[1] in known_implementations):
        raise InvalidURIError(
            f"{uri}: there is no storage {scheme[0]}: name a folder, or one on a store, as s3://bucket/folder"
        )


def refuse_read_only(uri: str) -> None:
    """Raise InvalidURIError for an unusable URI, and for a read-only one such as a web server or an archive."""
    refuse_invalid_uri(uri)
    scheme = SCHEME.match(uri)
    if scheme and scheme[1] in _READ_ONLY:
        raise InvalidURIError(
            f"{uri}: nothing can be written to {scheme[1]}://: name a folder, or one on a store, as s3://bucket/folder"
        )


def refuse_file(folder: Path) -> None:
    """Raises InvalidURIError where a file stands under the name of the folder, or of one above it."""
    for part in (folder, *folder.parents):
        if part.exists():
            if not part.is_dir():
                raise InvalidURIError(f"{folder} cannot be a folder, as {part} is a file: name another place")
            return
