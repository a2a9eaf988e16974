"""Files that operating systems leave beside photos: `.DS_Store`, AppleDouble's `._x.jpg`, `Thumbs.db` and the like.

In: a path. Out: the reason for which it is no photo. A file of its own because every source meets them, in folders and
in archives alike: they stay on the ledger, and no share of rejected photos counts them.
"""

import re
from typing import Final

_REASON: Final = "a file of the operating system, no photo"
_NAMES: Final = r"\._[^/]*|\.DS_Store|\.localized|\.directory|Icon\r|Thumbs\.db|ehthumbs\.db|desktop\.ini"
_FOLDERS: Final = (
    r"__MACOSX|\.AppleDouble|\.Spotlight-V100|\.fseventsd|\.Trashes|\.TemporaryItems|@eaDir|\$RECYCLE\.BIN|"
    r"System Volume Information"
)
_PATH: Final = re.compile(rf"(?:^|/)(?:(?:{_NAMES})$|(?:{_FOLDERS})/)", re.IGNORECASE)


def find_system_file_reason(path: str) -> str | None:
    """Reason to reject the file if an operating system wrote it for itself, None for any other file."""
    return _REASON if _PATH.search(path) else None


def is_system_file_reason(reason: str | None) -> bool:
    """Whether a stored reason is the one of `find_system_file_reason`."""
    return reason == _REASON
