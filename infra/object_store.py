"""Object stores: transient faults, and creation of a file that must not exist yet.

In: an fsspec file system and paths on it. Out: exceptions with advice, whether a fault is transient, and whether a file
was created. Libraries of stores are known by the names of their exceptions alone.
"""

import errno
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

_TRANSIENT: Final = frozenset(
    {errno.EBUSY, errno.EIO, errno.EREMOTEIO, errno.EAGAIN, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH}
)
"""s3fs maps 409, 503 and SlowDown to EBUSY, 500 to EREMOTEIO, and unknown errors to EIO."""
_TRANSIENT_CLASSES: Final = frozenset(
    {"ConnectionError", "HTTPClientError", "IncompleteReadError", "ResponseParserError"}  # of botocore
    | {"ClientConnectionError", "ClientPayloadError"}  # of aiohttp
)
_KEYLESS_CLASSES: Final = frozenset({"NoCredentialsError", "PartialCredentialsError"})  # of botocore
_HAS_CONDITIONS: Final[dict[tuple[AbstractFileSystem, str], bool]] = {}
_CONFLICT: Final = "ConditionalRequestConflict"
_LOST: Final = "pre-condition"
_UNKNOWN: Final = (errno.ENOSYS, errno.EINVAL)
_CONFLICT_WAITS_SECONDS: Final = (0.1, 0.4, 1.6)
_SETTLING_SECONDS: Final = 2.0
"""A process that found no file writes its own within this time."""


def is_transient(fault: BaseException) -> bool:
    """Whether a fault is one of a network or a busy server, and not a missing, forbidden or wrong request."""
    if isinstance(fault, OSError) and (isinstance(fault, TimeoutError) or fault.errno in _TRANSIENT):
        return True
    return not _TRANSIENT_CLASSES.isdisjoint(kind.__name__ for kind in type(fault).__mro__)


@contextmanager
def translate_faults(fs: AbstractFileSystem, uri: str) -> Iterator[None]:
    """Add advice to errors of a full disk and of missing keys; turn a store's transient faults into ConnectionError."""
    try:
        yield
    except Exception as fault:
        if isinstance(fault, OSError) and fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(fault.errno, f"no space to write {uri}: free some, then run the same command again") from None
        if type(fault).__name__ in _KEYLESS_CLASSES:
            raise PermissionError(
                f"{uri}: no keys for its store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and "
                "AWS_ENDPOINT_URL for a store other than Amazon's"
            ) from None
        if not isinstance(fs, LocalFileSystem) and is_transient(fault):
            reason = f"{type(fault).__name__}: {fault}"
            raise ConnectionError(f"could not reach {uri} ({reason}): run the same command again") from fault
        raise


def create_remote(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Create the file unless it exists, and return whether this call created it.

    A store with conditional puts lets the first of several processes win. On any other store each process puts its
    file, waits until all others must have done so, and reads the file back: the last one wins.
    """
    if fs.exists(path):
        return False
    if _has_conditions(fs, path):
        return _put_if_absent(fs, path, data)
    fs.pipe_file(path, data)
    time.sleep(_SETTLING_SECONDS)
    return bytes(fs.cat_file(path)) == data


def _has_conditions(fs: AbstractFileSystem, path: str) -> bool:
    """Whether the store refuses to create a file that exists; tried beside `path`, once per bucket and process."""
    folder, _, _ = path.rpartition("/")
    store = fs, path.lstrip("/").partition("/")[0]
    if store not in _HAS_CONDITIONS:
        _HAS_CONDITIONS[store] = _try_condition(fs, f"{folder}/.aside-{secrets.token_hex(6)}")
    return _HAS_CONDITIONS[store]


def _try_condition(fs: AbstractFileSystem, path: str) -> bool:
    try:
        return _put_if_absent(fs, path, b"first") and not _put_if_absent(fs, path, b"second")
    except (NotImplementedError, ValueError):
        return False
    except OSError as fault:
        if fault.errno in _UNKNOWN:
            return False
        raise
    finally:
        with suppress(FileNotFoundError):
            fs.rm_file(path)


def _put_if_absent(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Put the file if none is there, and return whether it was put; try again while another put is under way."""
    for wait in (*_CONFLICT_WAITS_SECONDS, None):
        try:
            fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        except OSError as fault:
            if _LOST in str(fault).lower() and fs.exists(path):  # for some stores s3fs raises a plain OSError
                return False
            if wait is None or _get_error_code(fault) != _CONFLICT:
                raise
            time.sleep(wait)
        else:
            return True
    raise AssertionError("the last try returns or raises")


def _get_error_code(fault: OSError) -> Any:
    """Error code of the store, if its library keeps it."""
    return getattr(fault.__cause__, "response", {}).get("Error", {}).get("Code")
