"""Records of a folder of results: the settings that all of them have, and one record for each photo.

In: a folder and the settings of a run. Out: which photos are done. In its folder `.lacuna` stand `fill.json` with the
model and the settings, written first, and `photos/<name>.json` with the digests of a photo's files and of its results,
written last; both are sealed. So a run that was killed goes on, and what was changed since is not taken for ours.
"""

import json
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Final

from infra import storage
from pipelines.checked_files import seal, unseal
from pipelines.records import CorruptDataError, UsageError, canonical_json, find_difference, sha256_hex

FOLDER: Final = ".lacuna"
_SETTINGS, _PHOTOS = "fill.json", "photos"


class FillRecords:
    """The records of one folder of results."""

    def __init__(self, out: str, settings: Mapping[str, Any]) -> None:
        """Look at the folder `out`; raises UsageError where its results have other settings."""
        self._out, self._settings = out, {"settings": json.loads(canonical_json(dict(settings)))}
        self._refuse_other_settings()
        found = dict(storage.list_files(out)) if storage.exists(out) else {}
        prefix = f"{FOLDER}/{_PHOTOS}/"
        self._recorded = {name[len(prefix) : -len(".json")] for name in found if name.startswith(prefix)}
        self._is_new = f"{FOLDER}/{_SETTINGS}" not in found
        self._results = {name for name in found if not name.startswith(f"{FOLDER}/")}
        self._replaced: dict[str, tuple[str, ...]] = {}

    def refuse_foreign(self, names: Iterable[str]) -> None:
        """Raise UsageError where a file of one of these names lies in a folder that holds no results of ours."""
        foreign = next((name for name in names if name in self._results), None) if self._is_new else None
        if foreign is not None:
            raise UsageError(
                f"{storage.join(self._out, foreign)} is there and was not written by fill: name another --out"
            )

    @property
    def lock_uri(self) -> str:
        """The folder that a run holds while it works."""
        return storage.join(self._out, FOLDER)

    def claim(self) -> None:
        """Write down the settings and sweep what killed runs left; raises UsageError where another run was first."""
        if not storage.create(self._make_uri(_SETTINGS), seal(self._settings)):
            self._refuse_other_settings()
        if storage.to_local_path(self._out) is not None:
            for folder, _ in storage.list_folders(self._out):
                storage.sweep(storage.join(self._out, folder) if folder else self._out)

    def find_state(self, name: str, inputs: Mapping[str, str]) -> str | None:
        """Reason to fill a photo: None where it is done, "" where it never was filled.

        `inputs`: SHA-256 of its files by option. Raises UsageError where a result was changed since it was written.
        """
        if name not in self._recorded:
            return ""
        try:
            record = unseal(storage.read_bytes(self._make_photo_uri(name)), self._make_photo_uri(name))
        except CorruptDataError:
            return "its record is damaged"
        missing = False
        for file, digest in record["results"].items():
            found = self._hash_result(file)
            if found is not None and found != digest:
                raise UsageError(
                    f"{storage.join(self._out, file)} was changed since it was filled: remove it or move it"
                )
            missing = missing or found is None
        self._replaced[name] = tuple(file for file in record["results"] if file in self._results)
        before = record["inputs"]
        changed = sorted(option for option in {*before, *inputs} if before.get(option) != inputs.get(option))
        if changed:
            return f"its {' and '.join(changed)} changed"
        return "its result was removed" if missing else None

    def write(self, name: str, inputs: Mapping[str, str], results: Iterable[tuple[str, bytes]]) -> None:
        """Write the results of a photo, by their names, and then its record.

        Raises UsageError where a file of such a name is there that no run wrote. Where a result or the record cannot be
        made or written, all of them are removed.
        """
        remaining = iter(results)
        first = next(remaining)  # what cannot be made at all replaces nothing
        self._remove_older(name)
        digests: dict[str, str] = {}
        try:
            for file, data in chain([first], remaining):
                digest = sha256_hex(data)
                if self._hash_result(file) not in (None, digest):
                    there = storage.join(self._out, file)
                    raise UsageError(
                        f"{there} is there without a record and differs from this fill: remove it or move it"
                    )
                storage.publish(storage.join(self._out, file), data)
                digests[file] = digest
            storage.publish(self._make_photo_uri(name), seal({"inputs": dict(inputs), "results": digests}))
        except Exception:
            for file in digests:
                storage.remove(storage.join(self._out, file))
            raise

    def _remove_older(self, name: str) -> None:
        """Remove what an older record says of a photo, results first: so no killed run leaves one without a record."""
        for file in self._replaced.pop(name, ()):
            storage.remove(storage.join(self._out, file))
            self._results.discard(file)
        if name in self._recorded:
            storage.remove(self._make_photo_uri(name))
            self._recorded.discard(name)

    def _hash_result(self, file: str) -> str | None:
        if file not in self._results:
            return None
        return sha256_hex(storage.read_bytes(storage.join(self._out, file)))

    def _refuse_other_settings(self) -> None:
        uri = self._make_uri(_SETTINGS)
        try:
            there = unseal(storage.read_bytes(uri), uri)
        except (FileNotFoundError, NotADirectoryError):
            return
        except CorruptDataError:
            raise UsageError(
                f"{uri} is damaged, so nothing says how the fills beside it were made: name another --out, or remove "
                f"them and {FOLDER} to fill all again"
            ) from None
        difference = find_difference(there, self._settings)
        if difference is not None:
            name, before, now = difference
            raise UsageError(
                f"{self._out} holds fills with {name.removeprefix('settings.')} = {before!r}, this run has {now!r}: "
                "name another --out"
            )

    def _make_uri(self, *parts: str) -> str:
        return storage.join(self._out, FOLDER, *parts)

    def _make_photo_uri(self, name: str) -> str:
        return self._make_uri(_PHOTOS, f"{name}.json")
