"""What a store over a network does and a disk does not: faults that pass, and creation by a condition or without.

In: an fsspec file system, paths on it. Out: faults in words, whether one may be gone at the next try, and whether a
file was made. A file of its own because it knows the libraries of stores, by the names of their exceptions alone.
"""

import errno
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

_PASSING: Final = frozenset(
    {errno.EBUSY, errno.EIO, errno.EREMOTEIO, errno.EAGAIN, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH}
)
"""Of s3fs: 409, 503 and SlowDown are EBUSY, 500 is EREMOTEIO, and what it does not know is EIO."""
_PASSING_CLASSES: Final = frozenset(
    {"ConnectionError", "HTTPClientError", "IncompleteReadError", "ResponseParserError"}  # of botocore
    | {"ClientConnectionError", "ClientPayloadError"}  # of aiohttp
)
_KEYLESS_CLASSES: Final = frozenset({"NoCredentialsError", "PartialCredentialsError"})  # of botocore
_HEEDING: Final[dict[tuple[AbstractFileSystem, str], bool]] = {}
_CONFLICT: Final = "ConditionalRequestConflict"
_LOST: Final = "pre-condition"
_UNKNOWN: Final = (errno.ENOSYS, errno.EINVAL)
_CONFLICT_WAITS_SECONDS: Final = (0.1, 0.4, 1.6)
_SETTLING_SECONDS: Final = 2.0
"""Who found nothing at the place puts its file there sooner than this."""


def may_pass(fault: BaseException) -> bool:
    """Whether a fault is one of a network or of a busy server; what is missing, forbidden or wrong stays so."""
    if isinstance(fault, OSError) and (isinstance(fault, TimeoutError) or fault.errno in _PASSING):
        return True
    return not _PASSING_CLASSES.isdisjoint(kind.__name__ for kind in type(fault).__mro__)


def _lacks_keys(fault: BaseException) -> bool:
    """Whether a store was not even asked, as there is nothing to say who asks."""
    return type(fault).__name__ in _KEYLESS_CLASSES


@contextmanager
def translate_faults(fs: AbstractFileSystem, uri: str) -> Iterator[None]:
    """Says what to do about a full disk and missing keys; a store's faults that may pass become ConnectionError."""
    try:
        yield
    except Exception as fault:
        if isinstance(fault, OSError) and fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(fault.errno, f"no space to write {uri}: free some, then run the same command again") from None
        if _lacks_keys(fault):
            raise PermissionError(
                f"{uri}: there are no keys for its store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and "
                "AWS_ENDPOINT_URL where the store is not Amazon's"
            ) from None
        if not isinstance(fs, LocalFileSystem) and may_pass(fault):
            told = f"{type(fault).__name__}: {fault}"
            raise ConnectionError(f"{uri} cannot be reached now ({told}): run the same command again") from fault
        raise


def create_remote(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Makes the file unless one is there; whether this call made it.

    A store that heeds the condition lets one of several win. For another, each puts its file, waits until all who
    found nothing must have done so, and looks whose is there: the last one wins.
    """
    if fs.exists(path):
        return False
    if _heeds_condition(fs, path):
        return _put_if_none(fs, path, data)
    fs.pipe_file(path, data)
    time.sleep(_SETTLING_SECONDS)
    return bytes(fs.cat_file(path)) == data


def _heeds_condition(fs: AbstractFileSystem, path: str) -> bool:
    """Whether creation of a file that is there is refused; tried beside `path`, once for a bucket and process."""
    folder, _, _ = path.rpartition("/")
    store = fs, path.lstrip("/").partition("/")[0]
    if store not in _HEEDING:
        _HEEDING[store] = _refuses_second(fs, f"{folder}/.aside-{secrets.token_hex(6)}")
    return _HEEDING[store]


def _refuses_second(fs: AbstractFileSystem, path: str) -> bool:
    try:
        return _put_if_none(fs, path, b"first") and not _put_if_none(fs, path, b"second")
    except (NotImplementedError, ValueError):
        return False
    except OSError as fault:
        if fault.errno in _UNKNOWN:
            return False
        raise
    finally:
        with suppress(FileNotFoundError):
            fs.rm_file(path)


def _put_if_none(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """A put on the condition that nothing is there, again where another's is under way; whether it was done."""
    for wait in (*_CONFLICT_WAITS_SECONDS, None):
        try:
            fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        except OSError as fault:
            if _LOST in str(fault).lower() and fs.exists(path):  # s3fs: no exception of its own for some stores
                return False
            if wait is None or _code_of(fault) != _CONFLICT:
                raise
            time.sleep(wait)
        else:
            return True
    raise AssertionError("the last try returns or raises")


def _code_of(fault: OSError) -> Any:
    """What the store calls the fault, where its library keeps that."""
    return getattr(fault.__cause__, "response", {}).get("Error", {}).get("Code")
