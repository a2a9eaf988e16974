"""Files of a registered version, and the one digest over all of them.

In: a version, and the folder or server that holds its files. Out: tags at registration; a fresh folder with exactly the
registered files at every use, or CorruptDataError naming the first file that is not as it was registered.
"""

import hashlib
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.tracking import Tracking, Version
from pipelines.records import CorruptDataError, UsageError

DIGEST_TAG: Final = "lacuna.version_sha256"
"""Tag of a version: SHA-256 over the text in FILES_TAG."""
FILES_TAG: Final = "lacuna.version_files"
"""Tag of a version: a line "path sha256" for each of its files, sorted."""
_OF_MLFLOW: Final = "registered_model_meta"
_OF_PYTHON: Final = "__pycache__"


def list_files(folder: Path) -> dict[str, str]:
    """SHA-256 by path, relative and sorted, of all files in the folder but those that MLflow and Python add.

    Raises CorruptDataError for a link, a pipe or a device, which no version has.
    """
    digests: dict[str, str] = {}
    for name, path in sorted(_list_regular(folder)):
        if name != _OF_MLFLOW and _OF_PYTHON not in name.split("/"):
            with path.open("rb") as stream:
                digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def _list_regular(folder: Path) -> list[tuple[str, Path]]:
    """Files by their paths relative to the folder; raises CorruptDataError for anything but a file or a folder."""
    found = [(path.relative_to(folder).as_posix(), path) for path in _walk(folder)]
    for name, path in found:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise CorruptDataError(f"{name!r} is a link or a special file, which no version has")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """Yield everything below the folder except folders; a link to a folder is a link."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        else:
            yield path


def make_version_tags(files: dict[str, str]) -> dict[str, str]:
    """Tags that fix the files of a version."""
    text = "\n".join(f"{name} {digest}" for name, digest in sorted(files.items()))
    return {DIGEST_TAG: _sha256(text), FILES_TAG: text}


def fetch_version(version: Version, tracking: Tracking, folder: Path) -> Path:
    """Folder inside `folder` with exactly the files that were registered.

    Raises CorruptDataError naming a file that is missing, changed, added or a link; UsageError where the version was
    registered without a digest.
    """
    registered = _read_tags(version)
    try:
        if (place := tracking.find_local_folder(version)) is not None and place.is_dir():
            _list_regular(place)  # a link there would be copied as the file that it leads to
        downloaded = tracking.download(version, folder / "downloaded")
        _refuse_changes(list_files(downloaded), registered)
    except CorruptDataError as fault:
        raise CorruptDataError(f"{version.uri}: {fault}: register the checkpoint again") from None
    return _move_files(registered, downloaded, folder / "version")


def _read_tags(version: Version) -> dict[str, str]:
    """SHA-256 by path from the version's tags."""
    if not {DIGEST_TAG, FILES_TAG} <= version.tags.keys():
        raise UsageError(f"{version.uri} was registered without a digest over its files: register the checkpoint again")
    text, digest = version.tags[FILES_TAG], version.tags[DIGEST_TAG]
    if _sha256(text) != digest:
        raise CorruptDataError(
            f"{version.uri}: the tag {FILES_TAG} has SHA-256 {_sha256(text)[:12]}, the tag {DIGEST_TAG} says "
            f"{digest[:12]}: register the checkpoint again"
        )
    lines = (line.rpartition(" ") for line in text.split("\n"))
    return {name: digest for name, _, digest in lines}


def _refuse_changes(found: dict[str, str], registered: dict[str, str]) -> None:
    for name in sorted(found.keys() | registered.keys()):
        if name not in found:
            raise CorruptDataError(f"{name} is missing")
        if name not in registered:
            raise CorruptDataError(f"{name!r} was not registered with the version")
        if found[name] != registered[name]:
            raise CorruptDataError(f"{name} has SHA-256 {found[name][:12]}, registered was {registered[name][:12]}")


def _move_files(names: dict[str, str], source: Path, target: Path) -> Path:
    """Move the named files into a new folder and remove all others."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source / name, target / name)
    shutil.rmtree(source)
    return target


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
