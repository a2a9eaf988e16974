"""Law 3: any change of any byte of a dataset is named by verify, and no reader ever hands out a changed byte.

Nor does any batch of a stream hold one: an epoch stops naming the file, or is the undamaged one, or, where the config
says so, consists of undamaged samples with others in the place of the damaged ones, which are named.

LACUNA_SOAK_DAMAGES says how many random damages are tried; 60 of them take some seconds. Every kind of file has its
share of them: commit record, list of shards, tables, the table of what is absent, and tars with their padding.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from infra import storage
from infra.world import World
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.data.dataset.verify import Damage, verify_dataset
from pipelines.data.shard_tar import locate_member, read_index
from pipelines.manifest import COMMIT_FILE, Dataset, open_dataset
from pipelines.records import CorruptDataError
from pipelines.stream.batching import Stream
from pipelines.stream.config import StreamConfig
from pipelines.stream.reading import ShardReader, StoredSample
from tests.making import scene_folder, shard_recipe

NUM_DAMAGES = int(os.environ.get("LACUNA_SOAK_DAMAGES", "60"))
NUM_PHOTOS = 12
Harm = Callable[[bytes, random.Random], bytes]
STRICT: Final = StreamConfig(
    size_px=32, resize="random-square", masks=("rectangle",), mask_canvas_px=32, planes=("segmentation",),
    num_lanes=3, block_size=2,
)  # fmt: skip
LENIENT: Final = replace(STRICT, resize="squash", augment=(), damaged="replace")
"""A photo looks the same wherever it stands, so that one in the place of another is known by its pixels."""


def cut(data: bytes, rng: random.Random) -> bytes:
    """The end is missing, as after a full disk."""
    return data[: rng.randrange(len(data))]


def zero_tail(data: bytes, rng: random.Random) -> bytes:
    """The end is zeros, as after a power failure."""
    start = rng.randrange(len(data))
    return data[:start] + bytes(len(data) - start)


def flip_byte(data: bytes, rng: random.Random) -> bytes:
    """One bit is another, as from bad memory."""
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def flip_at_the_end(data: bytes, rng: random.Random) -> bytes:
    """One bit of the last 1,500 bytes is another: index and padding of a tar, footer of a table."""
    end = max(0, len(data) - 1500)
    return data[:end] + flip_byte(data[end:], rng)


def grown(data: bytes, rng: random.Random) -> bytes:
    """Something is written behind the end."""
    return data + rng.randbytes(rng.randint(1, 700))


def overwritten(data: bytes, rng: random.Random) -> bytes:
    """A block in the middle is noise."""
    start = rng.randrange(len(data))
    return data[:start] + rng.randbytes(min(512, len(data) - start)) + data[start + 512 :]


HARMS: tuple[Harm, ...] = (cut, zero_tail, flip_byte, flip_at_the_end, grown, overwritten)


def silent(*_: object) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Dataset:
    """A dataset of 12 photos with planes and masks in a handful of shards, and a table of what is absent.

    Each test leaves it as it found it.
    """
    folder = tmp_path_factory.mktemp("victim")
    recipe = shard_recipe(source="ade20k-aim", planes=("seg",), mask_pixels=True, shard_bytes=10_000, holdout=0.0)
    return build_dataset(Plan(str(scene_folder(folder / "in", 8)), str(folder / "out"), recipe, 0), silent)


@pytest.fixture(scope="module")
def files(victim: Dataset) -> dict[str, bytes]:
    """Every file of the victim, by its path in it."""
    root = Path(victim.uri)
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def samples(victim: Dataset, files: dict[str, bytes]) -> dict[str, StoredSample]:
    """Every sample of the undamaged victim."""
    return {s.key: s for s in readable(victim.uri)[0]}


def readable(uri: str) -> tuple[list[StoredSample], list[str]]:
    """What the project's reader hands out of a dataset, and the faults that it raises instead."""
    got, faults = [], []
    try:
        dataset = open_dataset(uri)
    except (CorruptDataError, FileNotFoundError) as fault:
        return [], [str(fault)]
    for split in sorted({shard.split for shard in dataset.shards}):
        reader = ShardReader((dataset,), split)
        for shard, count in enumerate(reader.counts):
            for sample in range(count):
                try:
                    got.append(reader.read(shard, sample))
                except (CorruptDataError, FileNotFoundError) as fault:
                    faults.append(str(fault))
    return got, faults


class Delivered(NamedTuple):
    """A sample of a batch."""

    key: str
    image: bytes
    plane: bytes
    mask: bytes


def epoch(uri: str, config: StreamConfig) -> tuple[list[Delivered], list[str]]:
    """An epoch of batches of 3, sample by sample, and the incidents on the way."""
    stream = Stream((open_dataset(uri),), config, seed=5)
    samples: list[Delivered] = []
    incidents: list[str] = []
    for batch in islice(stream.batches(0, 3, World()), -(-stream.num_samples // 3)):
        pictures = (batch.image, batch.planes["segmentation"], batch.mask)
        bytes_of = ([one.numpy().tobytes() for one in picture] for picture in pictures)
        samples += [Delivered(*parts) for parts in zip(batch.keys, *bytes_of, strict=True)]
        incidents += batch.incidents
    return samples, incidents


Epochs = dict[str, list[Delivered]]


@pytest.fixture(scope="module")
def epochs(victim: Dataset, files: dict[str, bytes]) -> Epochs:
    """The undamaged epochs, by what their config does with damaged samples."""
    return {config.damaged: epoch(victim.uri, config)[0] for config in (STRICT, LENIENT)}


def check_strict_batches(uri: str, name: str, whole: list[Delivered]) -> None:
    """An epoch of the damaged dataset names the file or is the undamaged epoch."""
    try:
        got, incidents = epoch(uri, STRICT)
    except (CorruptDataError, FileNotFoundError) as fault:
        assert name in str(fault)
    else:
        assert (got, incidents) == (whole, [])


def check_lenient_batches(uri: str, name: str, keys: set[str], whole: list[Delivered]) -> None:
    """Every sample is an undamaged one, under the mask of its position; each that is not the one due is named."""
    try:
        got, incidents = epoch(uri, LENIENT)
    except (CorruptDataError, FileNotFoundError) as fault:
        assert name in str(fault)
        return
    assert {sample[:3] for sample in got} <= {sample[:3] for sample in whole}
    assert [sample.mask for sample in got] == [sample.mask for sample in whole]
    replaced = [p for p, (one, due) in enumerate(zip(got, whole, strict=True)) if one.key != due.key]
    assert sorted({int(incident.split()[1].rstrip(":")) for incident in incidents}) == replaced
    assert all(name in incident for incident in incidents)
    if name.endswith(".tar"):
        assert all(any(f" {key}." in incident for key in keys) for incident in incidents)


def harm(data: bytes, rng: random.Random) -> bytes:
    """The bytes after some damage that changes them."""
    while (worse := rng.choice(HARMS)(data, rng)) == data:
        pass
    return worse


def name_damage(damages: list[Damage], files: dict[str, bytes]) -> set[str]:
    """The files of the dataset that the damages speak of."""
    return {name for name in files for damage in damages if name in f"{damage.file} {damage.what}"}


def list_touched_keys(whole: bytes, worse: bytes, around: bool) -> set[str]:
    """Keys of the samples of a shard of which some byte is not as it was; `around`: of header and padding too."""
    members = read_index(whole)
    spans = [locate_member(m) if around else (m.offset, m.offset + m.size) for m in members]
    pairs = zip(members, spans, strict=True)
    return {m.name.partition(".")[0] for m, (start, end) in pairs if whole[start:end] != worse[start:end]}


def test_an_undamaged_dataset_names_nothing(
    victim: Dataset, files: dict[str, bytes], samples: dict[str, StoredSample]
) -> None:
    assert verify_dataset(victim.uri)[1] == []
    assert len(samples) == NUM_PHOTOS
    assert {name for sample in samples.values() for name in sample.planes} == {"seg", "mask", "mask2", "mask3"}
    assert any(name.startswith("tables/absent-") for name in files)


@pytest.mark.parametrize("seed", [0])
def test_random_damage_is_named_and_never_read(
    victim: Dataset, files: dict[str, bytes], samples: dict[str, StoredSample], epochs: Epochs, seed: int
) -> None:
    rng = random.Random(seed)
    for _ in range(NUM_DAMAGES):
        name = rng.choice(sorted(files))
        check_one_damage(victim.uri, name, harm(files[name], rng), files, samples, epochs)


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_every_kind_of_damage_of_the_commit_record_is_named(
    victim: Dataset, files: dict[str, bytes], samples: dict[str, StoredSample], epochs: Epochs, harm: Harm
) -> None:
    worse = harm(files[COMMIT_FILE], random.Random(1))
    check_one_damage(victim.uri, COMMIT_FILE, worse, files, samples, epochs)


def check_one_damage(
    uri: str, name: str, worse: bytes, files: dict[str, bytes], samples: dict[str, StoredSample], epochs: Epochs
) -> None:
    """Does the damage, looks at verify, reader and batches, and mends it again."""
    path = Path(uri) / name
    touched = list_touched_keys(files[name], worse, around=False) if name.endswith(".tar") else set()
    path.write_bytes(worse)
    try:
        _, damages = verify_dataset(uri)
        got, faults = readable(uri)
        check_strict_batches(uri, name, epochs["raise"])
        check_lenient_batches(uri, name, touched, epochs["replace"])
    finally:
        path.write_bytes(files[name])
    assert name_damage(damages, files) == {name}
    assert all(stored == samples[stored.key] for stored in got)
    if name.endswith(".tar"):
        assert {d.key for d in damages if d.key} == list_touched_keys(files[name], worse, around=True)
        assert len(got) + len(touched) == len(samples)
    elif "absent" in name:
        assert len(got) == len(samples)
    else:
        assert faults
        assert name in faults[0]


def test_a_lost_file_is_named(
    victim: Dataset, files: dict[str, bytes], samples: dict[str, StoredSample], epochs: Epochs
) -> None:
    for name in sorted(set(files) - {COMMIT_FILE}):
        (Path(victim.uri) / name).unlink()
        try:
            _, damages = verify_dataset(victim.uri)
            got, faults = readable(victim.uri)
            check_strict_batches(victim.uri, name, epochs["raise"])
        finally:
            (Path(victim.uri) / name).write_bytes(files[name])
        assert name_damage(damages, files) == {name}
        assert all(stored == samples[stored.key] for stored in got)
        assert faults or "absent" in name


def test_a_file_in_the_place_of_another_is_named(victim: Dataset, files: dict[str, bytes]) -> None:
    first, second = [name for name in files if name.endswith(".tar")][:2]
    (Path(victim.uri) / first).write_bytes(files[second])
    try:
        assert name_damage(verify_dataset(victim.uri)[1], files) == {first}
    finally:
        (Path(victim.uri) / first).write_bytes(files[first])


def test_a_remote_shard_is_not_believed_because_of_its_size(
    victim: Dataset, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    uri = "memory://damage/dataset"
    for name, data in files.items():
        storage.publish(storage.join(uri, name), data)
    shard = max(open_dataset(uri).shards, key=lambda s: s.num_samples)
    whole = files[shard.file]
    storage.publish(storage.join(uri, shard.file), whole[:600] + bytes(len(whole) - 600))
    assert readable(uri)[1]
    storage.publish(storage.join(uri, shard.file), whole)
    got, faults = readable(uri)
    assert (len(got), faults) == (NUM_PHOTOS, []), "the shard is whole again, and still called damaged"
    storage.remove(uri)


def test_a_local_copy_of_a_remote_shard_that_rots_is_not_read(
    victim: Dataset,
    files: dict[str, bytes],
    samples: dict[str, StoredSample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    uri = "memory://rot/dataset"
    for name, data in files.items():
        storage.publish(storage.join(uri, name), data)
    assert len(readable(uri)[0]) == NUM_PHOTOS
    for copy in tmp_path.rglob("*.tar"):
        copy.write_bytes(flip_byte(copy.read_bytes(), random.Random(3)))
    assert all(stored == samples[stored.key] for stored in readable(uri)[0])
    shutil.rmtree(tmp_path)
    assert len(readable(uri)[0]) == NUM_PHOTOS
    storage.remove(uri)
