"""Real photos through whole builds, to disk and to a real S3 server: the ledger, verify, and the same bytes at both."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.manifest import open_dataset, read_table
from tests.laws.killing import finish
from tests.making import files_of
from tests.s3 import bucket, objects_of
from tests.sampling import sample_cases

DATA = Path(os.environ.get("LACUNA_DATA", "/nowhere"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.realdata,
    pytest.mark.skipif("LACUNA_DATA" not in os.environ, reason="LACUNA_DATA names no folder of real photos"),
]


def part_of(name: str, *patterns: str, at_most: int = 300) -> Callable[[Path], Path]:
    """Makes a folder of the first files of each pattern under a folder of the data."""

    def copied(to: Path) -> Path:
        for pattern in patterns:
            for path in sorted(p for p in (DATA / name).glob(pattern) if p.is_file())[:at_most]:
                (to / path.relative_to(DATA / name)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, to / path.relative_to(DATA / name))
        return to

    return copied


def whole(name: str) -> Callable[[Path], Path]:
    """The folder of the data itself."""
    return lambda _: DATA / name


def celebahq(to: Path) -> Path:
    """Faces under CelebA's names with its partition beside them."""
    part_of("celeba_hq", "*.jpg", at_most=30)(to)
    shutil.copy(DATA / "celeba" / "list_eval_partition.txt", to)
    return to


SCENES = {"num_inputs": 4, "num_written": 4, "num_planes": 4, "num_planes_rejected": 0}
CASES: dict[str, tuple[str, Callable[[Path], Path], dict[str, int]]] = {
    "celeba": ("celeba", whole("celeba"), {"num_inputs": 4000, "num_absent": 198_599}),
    "celebahq": ("celebahq", celebahq, {"num_inputs": 30}),
    "places2-128": ("places2-128", part_of("places2_128", "*.txt", "train/*/*/*", "val/*"), {"num_inputs": 600}),
    "paris-streetview": ("paris-streetview", whole("paris_streetview"), {"num_inputs": 21}),
    "bsds500": ("folder", part_of("bsds500", "*/*", at_most=100), {"num_inputs": 100}),
    "coco": ("folder", whole("photos/coco"), {}),
    "ade20k": ("folder --planes seg", whole("photos/ade20k"), SCENES),
    "ade20k-aim": ("ade20k-aim --splits ade20k --planes seg", whole("photos/ade20k"), SCENES),
    "object_removal": ("folder", whole("photos/object_removal"), {}),
}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket on a real server."""
    with bucket(tmp_path_factory.mktemp("s3"), "real") as uri:
        yield uri


@pytest.fixture(scope="module")
def cluster(s3: str) -> Iterator[str]:
    """A Ray cluster for all builds, whose workers find the server."""
    from tests.laws.killing import two_nodes

    with two_nodes() as nodes:
        yield nodes.address


@pytest.mark.parametrize("case", sample_cases(CASES, ("celebahq", "places2-128", "bsds500", "ade20k-aim")))
def test_real_photos_have_one_dataset_on_disk_and_on_s3(case: str, s3: str, cluster: str, tmp_path: Path) -> None:
    source, root_in, expected = CASES[case]
    root, out = root_in(tmp_path / "in"), tmp_path / "data"
    words = ("--source", *source.split(), "--root", str(root), "--shard-bytes", str(1 << 20))
    report = finish(*words, "--out", str(out), cluster=cluster)
    remote = finish(*words, "--out", f"{s3}/{case}", cluster=cluster)
    assert {name: report[name] for name in expected} == expected
    check_ledger(str(out), report)
    assert remote["manifest_sha256"] == report["manifest_sha256"]
    assert objects_of(f"{s3}/{case}") == files_of(out)
    for uri in (str(out), f"{s3}/{case}"):
        assert finish(uri, verb="verify", cluster=cluster)["damaged"] == []


def check_ledger(uri: str, report: dict[str, Any]) -> None:
    """Every input is written, a duplicate or rejected with a reason, and the tables count as the report does."""
    dataset = open_dataset(uri)
    rows = [row for shard in dataset.shards for row in read_table(uri, shard).to_pylist()]
    for outcome, name in (("written", "num_written"), ("duplicate", "num_duplicates"), ("rejected", "num_rejected")):
        assert sum(row["outcome"] == outcome for row in rows) == report[name]
    assert report["num_inputs"] == len(rows) == len({row["source"] for row in rows})
    assert report["num_written"] >= 0.8 * len(rows)
    assert all(row["reason"] for row in rows if row["outcome"] != "written")
