"""Files that would share a key: which of them may have it.

In: the rows of such files. Out: for each the reason for which it becomes no sample, if so. They alone are cleaned
before keys are settled, for a file that is rejected later must not hold the key of one that is not.
"""

from typing import Any

from pipelines.data.cleaning import clean, memory_for
from pipelines.data.effort import Laps
from pipelines.data.listing import photo_of, read_scanned
from pipelines.data.mask_files import looks_like_mask, reason_beside
from pipelines.data.workspace import Plan
from pipelines.records import Rejected


def judge_twins(plan: Plan, rows: list[dict[str, Any]], laps: Laps) -> list[str | None]:
    """Reason to reject each of the files of one key, None for those that could be its sample.

    A picture that looks like a mask is none beside one that does not.
    """
    reasons, photos = list[str | None](), list[str]()
    for row in rows:
        photo = photo_of(row)
        raw = read_scanned(plan, photo, row["crc32"], laps)
        with memory_for(photo.path):
            sample = clean(raw, plan.recipe)
        reasons.append(sample.reason if isinstance(sample, Rejected) else None)
        if reasons[-1] is None and not looks_like_mask(raw, photo.path, plan.recipe):
            photos.append(photo.path)
        laps.end("cleaning")
    if not photos:
        return reasons
    own = (row["path"] for row in rows)
    return [
        reason or (None if path in photos else reason_beside(min(photos)))
        for path, reason in zip(own, reasons, strict=True)
    ]
