"""Check of every byte of a dataset against its records; damage is named by file and, if possible, by key.

In: URI of a dataset. Out: its damages. Where the records themselves are damaged, shards and tables are still checked
against the digests in their names and the index of each shard.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from isal import isal_zlib

from infra import storage
from infra.cluster import connect_ray, run_tasks
from pipelines.checked_files import unseal
from pipelines.data.dataset.blocks import Block, read_blocks, read_end
from pipelines.data.shard_tar import count_padding, make_member_header, read_index
from pipelines.keyed_rng import KeyedRng
from pipelines.manifest import COMMIT_FILE, SUCCESSORS, Dataset, name_shards_file, open_dataset, read_commit, read_table
from pipelines.records import CorruptDataError, Member, ShardRecord

Result = TypeVar("Result")

_MISSING: Final = "missing"
_BY_NAME: Final = re.compile(r"(?:[^/]+/[^/]+-\d{6,}-([0-9a-f]{12})\.tar|tables/[^/]+-\d{6,}-([0-9a-f]{12})\.parquet)")


@dataclass(frozen=True)
class Damage:
    """A file or sample that differs from its record."""

    file: str
    key: str | None
    what: str


def verify_dataset(uri: str, share: float = 1.0, seed: int = 0) -> tuple[Dataset | None, list[Damage]]:
    """Check the records and, in a Ray task each, this share of the shards with their tables, chosen by the seed.

    Returns the dataset, None if its records are too damaged to open it, and the damages. Raises UsageError where there
    is no dataset.
    """
    uri = storage.to_absolute(uri)  # tasks run in other folders
    # Check the records.
    found = list(_check_records(uri))
    tasks: list[tuple[str, Callable[..., list[Damage]], tuple[Any, ...]]]
    dataset = _open_dataset(uri, found)
    if dataset:
        for name in (name for layer in dataset.layers for name in layer["absent"]):  # their digests are in their names
            found += _check_digest(uri, name, name.rpartition("-")[2].removesuffix(".parquet"))[0]
        tasks = [(shard.file, _verify_shard, (uri, shard)) for shard in dataset.shards]
    else:
        names = [match for name, _ in storage.list_files(uri) if (match := _BY_NAME.fullmatch(name))]
        tasks = [(match[0], _verify_by_name, (uri, match[0], match[1] or match[2])) for match in names]
    # Check the shards.
    drawn = sorted(tasks, key=lambda task: KeyedRng(seed, "verify", task[0]).fraction())
    with connect_ray():
        for damages in run_tasks(_call, [task[1:] for task in drawn[: count_checked_shards(len(tasks), share)]]):
            found += damages
    return dataset, sorted(found, key=lambda d: (d.file, d.key or ""))


def count_checked_shards(count: int, share: float) -> int:
    """Number of shards in a share of `count`; at least one."""
    return max(1, round(share * count))


def _call(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    return function(*arguments)


def _check_records(uri: str) -> Iterator[Damage]:
    """Yield damages of the commit record and of its successors, which lead a reader to the newest."""
    folder = storage.join(uri, SUCCESSORS)
    names = [f"{SUCCESSORS}/{name}" for name, _ in storage.list_files(folder)] if storage.exists(folder) else []
    for name in (COMMIT_FILE, *names):
        _, what = _try_read(partial(_read_record, storage.join(uri, name)))
        if what and what != _MISSING:  # opening the dataset reports a missing one
            yield Damage(name, None, what)


def _read_record(record_uri: str) -> dict[str, Any]:
    return unseal(storage.read_bytes(record_uri), record_uri)


def _open_dataset(uri: str, found: list[Damage]) -> Dataset | None:
    """The dataset, None if its records cannot be read; a damaged list of shards is added to the damages."""
    commit, _ = _try_read(lambda: read_commit(uri))
    if commit is None:
        return None
    dataset, what = _try_read(lambda: open_dataset(uri))
    if what:
        found.append(Damage(name_shards_file(commit["shards_sha256"]), None, what))
    return dataset


def _try_read(check: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """Result of the check, or the fault of the file that it reads; a lost connection is no fault of a file."""
    try:
        return check(), None
    except (ConnectionError, TimeoutError):
        raise
    except FileNotFoundError:
        return None, _MISSING
    except CorruptDataError as fault:
        return None, str(fault)
    except OSError as fault:
        return None, f"cannot be read: {fault.strerror or fault}"


def _check_digest(uri: str, file: str, sha256: str) -> tuple[list[Damage], int]:
    """Damage of a file whose SHA-256 begins so, if any, and the number of bytes that can be read."""
    digest = hashlib.sha256()
    size, what = _try_read(lambda: storage.digest_file(storage.join(uri, file), digest))
    if what is None and not digest.hexdigest().startswith(sha256):
        what = f"SHA-256 differs; it has {size} bytes"
    return ([Damage(file, None, what)] if what else []), size or 0


def _verify_shard(uri: str, shard: ShardRecord) -> list[Damage]:
    """List of damages of a shard and its table."""
    _, what = _try_read(lambda: read_table(uri, shard))
    damages = [Damage(shard.table, None, what)] if what else []

    def members(size: int) -> list[Member]:
        if what:
            return read_index(read_end(storage.join(uri, shard.file), size))
        rows = read_table(uri, shard).column("members").to_pylist()
        return [Member(**member) for own in rows for member in own or ()]

    return damages + _check_shard(uri, shard.file, shard.sha256, members)


def _verify_by_name(uri: str, file: str, digest12: str) -> list[Damage]:
    """List of damages of a shard or table, by its name alone."""
    if not file.endswith(".tar"):
        return _check_digest(uri, file, digest12)[0]
    whole = storage.join(uri, file)
    return _check_shard(uri, file, digest12, lambda size: read_index(read_end(whole, size)))


def _check_shard(uri: str, file: str, sha256: str, members: Callable[[int], list[Member]]) -> list[Damage]:
    damages, size = _check_digest(uri, file, sha256)
    if damages:
        try:
            damages += _check_keys(file, read_blocks(storage.join(uri, file), size, members(size)))
        except (ConnectionError, TimeoutError):
            raise
        except Exception:  # noqa: BLE001 - the index of a damaged shard may be anything, and its file is named
            pass
    return damages


def _check_keys(file: str, blocks: Iterable[Block]) -> Iterator[Damage]:
    """Yield a damage for each key with a damaged member."""
    reported: set[str] = set()
    for block in blocks:
        key, what = block.member.name.partition(".")[0], _find_fault(block)
        if what and key not in reported:
            reported.add(key)
            yield Damage(file, key, what)


def _find_fault(block: Block) -> str | None:
    member = block.member
    if len(block.data) < member.size:
        return f"member {member.name} is missing or cut"
    if isal_zlib.crc32(block.data) != member.crc32:
        return f"CRC32 of member {member.name} differs"
    if block.header != make_member_header(member.name, member.size):
        return f"header of member {member.name} differs"
    return None if block.padding == bytes(count_padding(member.size)) else f"padding of member {member.name} differs"
