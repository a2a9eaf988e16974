"""Laws 3 and 6 for commits: a reader gets the newest committed weights or a refusal, whatever is damaged or killed.

A training meanwhile goes on from the newest checkpoint that is whole. Histories are random: commits that are killed in
any of their writes and removals, damages, starts that repair the list, older versions that know no list.
LACUNA_SOAK_COMMIT_HISTORIES says how many are tried; 60 by default.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from infra import storage
from pipelines.checked_files import unseal
from pipelines.checkpoints import (
    STATE_FILE,
    find_latest_checkpoint,
    open_checkpoint,
    repair_commit_list,
    save_checkpoint,
)
from pipelines.commit_list import LIST_FILE
from pipelines.records import CorruptDataError, UsageError

pytestmark = pytest.mark.thorough

NUM_HISTORIES: Final = int(os.environ.get("LACUNA_SOAK_COMMIT_HISTORIES", "60"))
FILES: Final = ("critic", "generator")
FOR_FILLING: Final = ("generator.safetensors", STATE_FILE)
MOST_WRITES: Final = 9
"""More than a commit takes: 2 files, state, list, and removals."""


class Killed(BaseException):
    """The process ends here."""


def tensors_at(clock: int) -> dict[str, dict[str, Tensor]]:
    """Tensors whose numbers encode the clock."""
    return {name: {"w": torch.arange(4) + 100.0 * clock} for name in FILES}


@contextmanager
def kill_in(number: int) -> Iterator[list[str]]:
    """Ends the block in its write or removal of this number, if it has so many; yields names of the files written.

    A removal ends when the first file, of those in no order, is gone.
    """
    publish, remove, count, published = storage.publish, storage.remove, 0, list[str]()

    def count_calls(uri: str, data: bytes) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise Killed
        publish(uri, data)
        published.append(uri.rpartition("/")[2])

    def torn(uri: str) -> None:
        nonlocal count
        count += 1
        if count == number:
            for path in Path(uri).glob("generator.*"):
                path.unlink()
            raise Killed
        remove(uri)

    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        patch.setattr(storage, "publish", count_calls)
        patch.setattr(storage, "remove", torn)
        yield published


class Run:
    """A run of which is known, beside what its folder says, which checkpoint was committed last."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, str(folder)
        self.newest: int | None = None

    def path(self, clock: int, name: str = "") -> Path:
        return self.folder / "checkpoints" / f"{clock:012d}" / name

    def clocks(self) -> list[int]:
        """Clocks at which there is a state, oldest first."""
        return sorted(int(path.parent.name) for path in self.folder.glob(f"checkpoints/*/{STATE_FILE}"))

    def list_names(self) -> list[int]:
        """What the list says; nothing before there is one."""
        path = self.folder / LIST_FILE
        return list(unseal(path.read_bytes(), "")["committed"]) if path.exists() else []

    def is_whole(self, clock: int, *names: str) -> bool:
        """Whether these files of a checkpoint are there as they were written; all of them by default."""
        for name in names or (*(f"{name}.safetensors" for name in FILES), STATE_FILE):
            path = self.path(clock, name)
            if not path.exists() or path.read_bytes().startswith(b"damaged"):
                return False
        return True

    def train(self, ahead: int, fatal: int) -> None:
        """Goes on as a training does, to one more checkpoint; nothing where none is whole."""
        try:
            found = find_latest_checkpoint(self.out)
        except CorruptDataError:
            return
        before, clock = self.newest, (found.images_seen if found else 0) + ahead
        was_taken = before is not None and self.is_whole(before, *FOR_FILLING)
        with kill_in(fatal) as published:
            save_checkpoint(self.out, tensors_at(clock), {"images_seen": clock})
        if STATE_FILE in published:
            done = published[-1] == LIST_FILE
            self.newest = clock if done else max(clock, self.newest or 0)
        if was_taken:
            assert open_checkpoint(self.out).images_seen in (before, clock)

    def start(self, fatal: int) -> None:
        """What the command does before it trains."""
        with kill_in(fatal):
            repair_commit_list(self.out)

    def damage(self, back: int, name: str, how: str) -> None:
        """Damages a file of the newest checkpoint or of one before it."""
        clocks = self.clocks()[::-1]
        if back < len(clocks):
            path = self.path(clocks[back], name)
            if how == "gone":
                path.unlink(missing_ok=True)
            elif path.exists():
                path.write_bytes(b"damaged" + path.read_bytes())

    def check(self) -> None:
        """The law, in any state of the run."""
        # A state that goes before the list has its clock is as if it had never been written.
        if self.newest not in (None, *self.list_names(), *self.clocks()):
            self.newest = max((*self.list_names(), *self.clocks()), default=None)
        # One that a killed commit has not yet dropped, and that fills, is still there.
        newest = max((self.newest or 0, *(c for c in self.clocks() if self.is_whole(c, *FOR_FILLING)))) or None
        self.check_training()
        if newest is None:
            with pytest.raises(UsageError, match="no checkpoint at"):
                open_checkpoint(self.out)
        elif self.is_whole(newest, *FOR_FILLING):
            opened = open_checkpoint(self.out)
            assert torch.equal(opened.tensors("generator")["w"], tensors_at(newest)["generator"]["w"])
        else:
            self.check_refusal(newest)

    def check_training(self) -> None:
        """It goes on from the newest that is whole, and does not start over."""
        whole = [clock for clock in self.clocks() if self.is_whole(clock)]
        if self.newest is not None and not whole:
            with pytest.raises(CorruptDataError, match=r"checkpoints of .* is sound"):
                find_latest_checkpoint(self.out)
            return
        found = find_latest_checkpoint(self.out)
        assert (found.images_seen if found else None) == max(whole, default=None)

    def check_refusal(self, newest: int) -> None:
        """The newest is named, and the newest other one that fills."""
        fill = [clock for clock in self.clocks() if self.is_whole(clock, *FOR_FILLING)]
        for uri in (self.out, str(self.path(newest))):
            with pytest.raises(CorruptDataError, match=f"{newest:012d}") as refusal:
                open_checkpoint(uri)
            assert (f"give {self.path(max(fill))} to use" if fill else "No other checkpoint") in str(refusal.value)


HARMED: Final = (*FOR_FILLING, "critic.safetensors")
STEPS: Final = st.one_of(
    st.tuples(st.just("train"), st.sampled_from((4, 8)), st.integers(1, MOST_WRITES)),
    st.tuples(st.just("train"), st.just(8), st.just(99)),
    st.tuples(st.just("start"), st.integers(1, 2)),
    st.tuples(st.just("damage"), st.integers(0, 2), st.sampled_from(HARMED), st.sampled_from(("gone", "changed"))),
)


@settings(max_examples=NUM_HISTORIES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(STEPS, max_size=12))
def test_whatever_befalls_a_run_readers_get_its_newest_commit_or_a_refusal(
    history: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    shutil.rmtree(run.folder, ignore_errors=True)
    for step, *arguments in history:
        getattr(run, step)(*arguments)
        run.check()


@pytest.mark.parametrize(("name", "how"), [*((name, "changed") for name in HARMED), (STATE_FILE, "gone")])
@pytest.mark.parametrize("ahead", [4, 8], ids=["before the damaged one", "at the damaged one"])
def test_a_commit_after_a_fall_back_may_be_killed_in_any_write(tmp_path: Path, name: str, how: str, ahead: int) -> None:
    for fatal in range(1, MOST_WRITES + 1):
        run = Run(tmp_path / str(fatal))
        for _ in range(3):
            run.train(8, 99)
        run.damage(0, name, how)
        run.train(ahead, fatal)
        run.check()
        run.start(99)
        run.check()
        run.train(4, 99)
        run.check()


def test_a_commit_may_be_killed_in_any_write(tmp_path: Path) -> None:
    for fatal in range(1, MOST_WRITES + 1):
        run = Run(tmp_path / str(fatal))
        for killed in (99, fatal, fatal, 99, 99, fatal, 99):
            run.train(8, killed)
            run.check()
