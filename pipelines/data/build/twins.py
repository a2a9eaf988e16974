"""Files that would share a key: which of them can become its sample.

In: the rows of such files. Out: for each the reason to reject it, or None. They alone are normalized before keys are
resolved, because a file that is rejected later must not hold the key of one that is not.
"""

from typing import Any

from pipelines.data.build.scan import read_unchanged, to_photo
from pipelines.data.commit.workspace import Plan
from pipelines.data.image.mask_files import format_beside_reason, has_mask_colors, has_picture_name, is_mask_reason
from pipelines.data.image.normalize import name_memory_faults, normalize_photo
from pipelines.records import Rejected


def is_key_candidate(path: str, refusal: str | None) -> bool:
    """Whether a file is a photo or, refused, has the name of one: a text file beside a picture competes for no key."""
    return refusal is None or (has_picture_name(path) and not is_mask_reason(refusal))


def find_twin_refusals(plan: Plan, rows: list[dict[str, Any]]) -> list[str | None]:
    """Reason to reject each of the files of one key, None for those that could be its sample.

    A picture that looks like a mask is rejected beside one that does not, even if that one is rejected too.
    """
    reasons, photos, masks = list[str | None](), list[str](), set[str]()
    for row in rows:
        reason, is_mask = row["refusal"], False
        if not reason:
            raw = read_unchanged(plan, to_photo(row), row["crc32"])
            with name_memory_faults(row["path"]):
                sample = normalize_photo(raw, plan.config)
            reason = sample.reason if isinstance(sample, Rejected) else None
            is_mask = has_mask_colors(raw, row["path"], plan.config)
        reasons.append(reason)
        if is_mask:
            masks.add(row["path"])
        else:
            photos.append(row["path"])
    if not photos:
        return reasons
    beside = format_beside_reason(min(photos))
    return [beside if row["path"] in masks else reason for row, reason in zip(rows, reasons, strict=True)]
