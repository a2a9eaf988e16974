"""Files that would share a key: which of them may have it.

In: the rows of such files. Out: for each the reason for which it becomes no sample, if so. They alone are cleaned
before keys are settled, for a file that is rejected later must not hold the key of one that is not.
"""

from typing import Any

from pipelines.data.build.scan import photo_of, read_scanned
from pipelines.data.build.timing import Stopwatch
from pipelines.data.commit.workspace import Plan
from pipelines.data.image.mask_files import has_picture_name, is_mask_reason, looks_like_mask, reason_beside
from pipelines.data.image.normalize import clean, memory_for
from pipelines.records import Rejected


def may_be_photo(path: str, refusal: str | None) -> bool:
    """Whether a file is a photo or, refused, was meant as one: a text beside a picture says nothing of the picture."""
    return refusal is None or (has_picture_name(path) and not is_mask_reason(refusal))


def judge_twins(plan: Plan, rows: list[dict[str, Any]], laps: Stopwatch) -> list[str | None]:
    """Reason to reject each of the files of one key, None for those that could be its sample.

    A picture that looks like a mask is none beside one that does not, be that one rejected.
    """
    reasons, photos, masks = list[str | None](), list[str](), set[str]()
    for row in rows:
        reason, is_mask = (row["refusal"], False) if row["refusal"] else _judge(plan, row, laps)
        reasons.append(reason)
        if is_mask:
            masks.add(row["path"])
        else:
            photos.append(row["path"])
    if not photos:
        return reasons
    beside = reason_beside(min(photos))
    return [beside if row["path"] in masks else reason for row, reason in zip(rows, reasons, strict=True)]


def _judge(plan: Plan, row: dict[str, Any], laps: Stopwatch) -> tuple[str | None, bool]:
    """Why a file becomes no sample, if so, and whether it looks like a mask."""
    photo = photo_of(row)
    raw = read_scanned(plan, photo, row["crc32"], laps)
    with memory_for(photo.path):
        sample = clean(raw, plan.recipe)
    is_mask = looks_like_mask(raw, photo.path, plan.recipe)
    laps.end("cleaning")
    return sample.reason if isinstance(sample, Rejected) else None, is_mask
