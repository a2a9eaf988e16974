"""Second reading of a file that a scan has read: it must not have changed since.

In: a photo and the CRC32 of its scan. Out: its bytes, or JobError.
"""

from isal import isal_zlib

from pipelines.data.archive.read import read_photo
from pipelines.data.commit.workspace import Plan
from pipelines.records import CorruptDataError, JobError, Photo


def read_unchanged(plan: Plan, photo: Photo, crc32: int) -> bytes:
    """Bytes of a scanned file; raises JobError where they have changed since."""
    try:
        raw = read_photo(plan.root, photo)
        if isal_zlib.crc32(raw) == crc32:
            return raw
    except CorruptDataError:
        pass
    raise JobError(
        f"{photo.path} under {plan.root} changed during the build: put it back as it was, or delete {plan.at()} "
        "and build again"
    )
