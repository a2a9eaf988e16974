"""Many photos filled into one folder, one at a time, going on where a run before was stopped.

In: jobs, a model, settings, the records of the folder. Out: a row for each photo. The files of one photo are read ahead
while another is filled; of a refused photo the reason is kept, and the others are filled all the same.
"""

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal

from infra.storage import NotAFileError
from nets.filling import NonFiniteFillError
from pipelines.evaluation.models import Model
from pipelines.filling.files import read_file
from pipelines.filling.fill_photo import FillSettings, fill_photo
from pipelines.filling.pairing import Job
from pipelines.filling.record import FillRecords
from pipelines.records import UsageError, sha256_hex

State = Literal["filled", "skipped", "refused", "left out"]
_UNREADABLE: Final = (FileNotFoundError, IsADirectoryError, NotADirectoryError, NotAFileError, PermissionError)
_UNWRITABLE: Final = (IsADirectoryError, NotADirectoryError, NotAFileError)
_BAD_NAMES: Final = (errno.ELOOP, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class Row:
    """Result of a photo."""

    job: Job
    state: State
    size: str = ""
    """Width x height, px; empty where it was not filled."""
    hole: str = ""
    """Share of the hole."""
    note: str = ""
    """Why it was refused, filled again or left out, and what was done to it first."""


@dataclass(frozen=True)
class _Ready:
    """A photo whose files were read."""

    job: Job
    inputs: Mapping[str, str]
    """SHA-256 of its files by option."""
    files: Mapping[str, bytes]
    reason: str | None
    """Why it is filled, None where it is done."""


def fill_all(
    jobs: Sequence[Job], model: Model, settings: FillSettings, records: FillRecords, begin: Callable[[int, Job], None]
) -> list[Row]:
    """Rows of all jobs, in their order; `begin` is called with the number of each before it is filled."""
    records.claim()
    rows = []
    for number, (job, ready) in enumerate(zip(jobs, _read_ahead(jobs, records), strict=True)):
        begin(number, job)
        rows.append(
            Row(job, "refused", note=ready) if isinstance(ready, str) else _fill(ready, model, settings, records)
        )
    return rows


def _fill(ready: _Ready, model: Model, settings: FillSettings, records: FillRecords) -> Row:
    if ready.reason is None:
        return Row(ready.job, "skipped")
    try:
        filled = fill_photo(ready.job, ready.files, model, settings)
        names = settings.list_file_names(ready.job.name)
        records.write(ready.job.name, ready.inputs, zip(names, filled.files, strict=True))
    except (UsageError, NonFiniteFillError) as fault:
        return Row(ready.job, "refused", note=str(fault))
    except OSError as fault:
        return Row(ready.job, "refused", note=_explain_fault(fault, _UNWRITABLE))
    except MemoryError:
        return Row(ready.job, "refused", note="not enough memory to fill it")
    again = [f"filled again: {ready.reason}"] if ready.reason else []
    facts = filled.facts
    size, share = f"{facts['width_px']}x{facts['height_px']}", f"{facts['hole_ratio']:.2%}"
    return Row(ready.job, "filled", size, share, "; ".join([*again, *filled.normalized, *filled.notes]))


def _read_ahead(jobs: Sequence[Job], records: FillRecords) -> Iterator[_Ready | str]:
    """Yield each job with its files, or the reason why they cannot be read; one is read while another is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_read, jobs[0], records)
        for following in [*jobs[1:], None]:
            ready = waiting.result()
            if following is not None:
                waiting = pool.submit(_read, following, records)
            yield ready
            del ready  # its pixels are not held while the next is awaited


def _read(job: Job, records: FillRecords) -> _Ready | str:
    try:
        files = {option: read_file(uri) for option, uri in {"image": job.image, **job.inputs}.items()}
        inputs = {option: sha256_hex(data) for option, data in files.items()}
        reason = records.find_state(job.name, inputs)
    except UsageError as fault:
        return str(fault)
    except OSError as fault:
        return _explain_fault(fault, _UNREADABLE)
    return _Ready(job, inputs, {} if reason is None else files, reason)


def _explain_fault(fault: OSError, of_one_file: tuple[type[OSError], ...]) -> str:
    """Error of one photo's file, in words; raises a fault that other photos meet too, such as a full disk."""
    if not isinstance(fault, of_one_file) and fault.errno not in _BAD_NAMES:
        raise fault
    return f"{fault.strerror}: {fault.filename2 or fault.filename}" if fault.strerror else str(fault)
