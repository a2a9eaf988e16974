"""Every byte of a dataset against its records: what differs is named by file and, where it can be, by key.

In: URI of a dataset. Out: its damages. Where its records are damaged themselves, shards and tables are still looked at:
by the digests in their names, and by the index that each shard holds.
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
from pipelines.data.dataset.blocks import Block, read_blocks, read_end
from pipelines.data.shard_tar import member_header, num_padding, read_index
from pipelines.keyed_rng import KeyedRng
from pipelines.manifest import (
    COMMIT_FILE,
    SUCCESSORS,
    Dataset,
    name_shards_file,
    open_dataset,
    read_commit,
    read_table,
    unseal,
)
from pipelines.records import CorruptDataError, Member, ShardRecord

Found = TypeVar("Found")

_MISSING: Final = "missing"
_BY_NAME: Final = re.compile(r"(?:[^/]+/[^/]+-\d{6,}-([0-9a-f]{12})\.tar|tables/[^/]+-\d{6,}-([0-9a-f]{12})\.parquet)")


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was written."""

    file: str
    key: str | None
    what: str


def verify_dataset(uri: str, share: float = 1.0, seed: int = 0) -> tuple[Dataset | None, list[Damage]]:
    """Checks the records and, a Ray task each, this share of the shards with their tables, chosen by the seed.

    Raises UsageError where there is no dataset; None stands for one whose records are too damaged to open it.
    """
    uri = storage.to_absolute(uri)  # tasks stand elsewhere
    found = list(_damaged_records(uri))
    tasks: list[tuple[str, Callable[..., list[Damage]], tuple[Any, ...]]]
    dataset = _opened(uri, found)
    if dataset:
        found += _damaged_absent(dataset)
        tasks = [(shard.file, _verify_shard, (uri, shard)) for shard in dataset.shards]
    else:
        names = [match for name, _ in storage.list_files(uri) if (match := _BY_NAME.fullmatch(name))]
        tasks = [(match[0], _verify_by_name, (uri, match[0], match[1] or match[2])) for match in names]
    drawn = sorted(tasks, key=lambda task: KeyedRng(seed, "verify", task[0]).fraction())
    with connect_ray():
        for damages in run_tasks(_called, [task[1:] for task in drawn[: count_checked_shards(len(tasks), share)]]):
            found += damages
    return dataset, sorted(found, key=lambda d: (d.file, d.key or ""))


def count_checked_shards(count: int, share: float) -> int:
    """How many shards a share of so many is; one at least."""
    return max(1, round(share * count))


def _called(function: Callable[..., Found], arguments: tuple[Any, ...]) -> Found:
    return function(*arguments)


def _damaged_records(uri: str) -> Iterator[Damage]:
    """The commit record and those that changes left: a reader goes through them to the newest."""
    folder = storage.join(uri, SUCCESSORS)
    names = [f"{SUCCESSORS}/{name}" for name, _ in storage.list_files(folder)] if storage.exists(folder) else []
    for name in (COMMIT_FILE, *names):
        _, what = _tried(partial(_read_record, storage.join(uri, name)))
        if what and what != _MISSING:  # one that is not there is told of by who opens the dataset
            yield Damage(name, None, what)


def _read_record(record_uri: str) -> dict[str, Any]:
    return unseal(storage.read_bytes(record_uri), record_uri)


def _opened(uri: str, found: list[Damage]) -> Dataset | None:
    """The dataset if its records can be read; adds the list of its shards to the damages where that is what cannot."""
    commit, _ = _tried(lambda: read_commit(uri))
    if commit is None:
        return None
    dataset, what = _tried(lambda: open_dataset(uri))
    if what:
        found.append(Damage(name_shards_file(commit["shards_sha256"]), None, what))
    return dataset


def _tried(check: Callable[[], Found]) -> tuple[Found | None, str | None]:
    """What the check returns, or what ails the file that it reads; a lost connection says nothing of a file."""
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


def _damaged_absent(dataset: Dataset) -> Iterator[Damage]:
    """Tables of absent files carry the start of their digest in their name and nowhere else."""
    for name in (name for layer in dataset.layers for name in layer["absent"]):
        yield from _other_digest(dataset.uri, name, name.rpartition("-")[2].removesuffix(".parquet"))[0]


def _other_digest(uri: str, file: str, sha256: str) -> tuple[list[Damage], int]:
    """What is wrong with a file of this SHA-256, or with this beginning of one; and how many bytes can be read."""
    digest = hashlib.sha256()
    size, what = _tried(lambda: storage.digest_file(storage.join(uri, file), digest))
    if what is None and not digest.hexdigest().startswith(sha256):
        what = f"SHA-256 differs; it has {size} bytes"
    return ([Damage(file, None, what)] if what else []), size or 0


def _verify_shard(uri: str, shard: ShardRecord) -> list[Damage]:
    """What is wrong with a shard and its table."""
    _, what = _tried(lambda: read_table(uri, shard))
    damages = [Damage(shard.table, None, what)] if what else []

    def members(size: int) -> list[Member]:
        if what:
            return read_index(read_end(storage.join(uri, shard.file), size))
        rows = read_table(uri, shard).column("members").to_pylist()
        return [Member(**member) for own in rows for member in own or ()]

    return damages + _damages_of_shard(uri, shard.file, shard.sha256, members)


def _verify_by_name(uri: str, file: str, digest12: str) -> list[Damage]:
    """What is wrong with a shard or table by its name alone."""
    if not file.endswith(".tar"):
        return _other_digest(uri, file, digest12)[0]
    whole = storage.join(uri, file)
    return _damages_of_shard(uri, file, digest12, lambda size: read_index(read_end(whole, size)))


def _damages_of_shard(uri: str, file: str, sha256: str, members: Callable[[int], list[Member]]) -> list[Damage]:
    damages, size = _other_digest(uri, file, sha256)
    if damages:
        try:
            damages += _damaged_keys(file, read_blocks(storage.join(uri, file), size, members(size)))
        except (ConnectionError, TimeoutError):
            raise
        except Exception:  # noqa: BLE001 - the index of a damaged shard may be anything, and its file is named
            pass
    return damages


def _damaged_keys(file: str, blocks: Iterable[Block]) -> Iterator[Damage]:
    """The keys with a damaged member."""
    told: set[str] = set()
    for block in blocks:
        key, what = block.member.name.partition(".")[0], _wrong(block)
        if what and key not in told:
            told.add(key)
            yield Damage(file, key, what)


def _wrong(block: Block) -> str | None:
    member = block.member
    if len(block.data) < member.size:
        return f"member {member.name} is missing or cut"
    if isal_zlib.crc32(block.data) != member.crc32:
        return f"CRC32 of member {member.name} differs"
    if block.header != member_header(member.name, member.size):
        return f"header of member {member.name} differs"
    return None if block.padding == bytes(num_padding(member.size)) else f"padding of member {member.name} differs"
