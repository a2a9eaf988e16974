"""Who is named when a training stands still: the rank that hangs, by its place in the code, and none that waits."""

import threading
import time
from collections.abc import Callable

import pytest
import torch

from infra.world import World
from pipelines.training import heartbeat as heartbeat_module
from pipelines.training.heartbeat import Beat, Heartbeat, HeartbeatMonitor


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long is 0.2 s."""
    monkeypatch.setattr(heartbeat_module, "_STILL_SECONDS", 0.2)
    monkeypatch.setattr(heartbeat_module, "_SECONDS_BETWEEN", 0.02)


class Trainer(threading.Thread):
    """A rank's training thread, with a heartbeat, that makes a step and then does something else."""

    def __init__(self, after: Callable[[], None], steps: tuple[float, ...] = ()) -> None:
        super().__init__(daemon=True)
        self.after, self.steps, self.ended = after, steps, threading.Event()
        self.beats: list[Beat] = []
        self.start()

    def run(self) -> None:
        with Heartbeat(3, self.beats.append) as heartbeat:
            for number, seconds in enumerate((0.0, *self.steps)):
                heartbeat.step(16 * number)
                time.sleep(seconds)
            self.after()

    def until(self, true: Callable[[Beat], bool]) -> Beat:
        """The first beat of which this is true, within 5 s."""
        ends = time.monotonic() + 5
        while time.monotonic() < ends:
            for beat in list(self.beats):
                if true(beat):
                    return beat
            time.sleep(0.01)
        raise AssertionError("no such beat")


def test_a_rank_that_hangs_says_where() -> None:
    release = threading.Event()

    def read_a_dead_disk() -> None:
        release.wait(5)

    trainer = Trainer(read_a_dead_disk)
    beat = trainer.until(lambda beat: bool(beat.stack))
    release.set()
    assert "read_a_dead_disk" in beat.stack
    assert str(beat).startswith(f"rank 3 (process {beat.pid} on {beat.host}) has made no step for ")
    assert " s at 0 images; it is here:\n" in str(beat)


def test_a_rank_that_waits_for_others_names_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda _: release.wait(5))

    def average() -> None:
        World(0, 2).average([torch.ones(1)])

    trainer = Trainer(average)
    trainer.until(lambda beat: beat.still_seconds > 0.5)
    release.set()
    assert not any(beat.stack for beat in trainer.beats)


def test_a_checkpoint_that_is_never_written_is_named_by_its_place_while_steps_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat_module, "_WRITING_SECONDS", 0.3)
    release, beats = threading.Event(), list[Beat]()

    def write_to_a_dead_store(heartbeat: Heartbeat) -> None:
        with heartbeat.mark_writing():
            release.wait(5)

    with Heartbeat(0, beats.append) as heartbeat:
        threading.Thread(target=write_to_a_dead_store, args=(heartbeat,), daemon=True).start()
        for number in range(60):
            heartbeat.step(16 * number)
            time.sleep(0.01)
        release.set()
    named = [beat for beat in beats if beat.stack]
    assert named
    assert all("write_to_a_dead_store" in beat.stack for beat in named)
    assert " has been writing a checkpoint for " in str(named[0])


def test_long_steps_are_no_hanging() -> None:
    trainer = Trainer(lambda: time.sleep(0.4), steps=(0.1, 0.3, 0.3))
    trainer.join(5)
    assert max(beat.still_seconds for beat in trainer.beats) > 0.5
    assert not any(beat.stack for beat in trainer.beats)


def test_one_long_step_does_not_make_it_patient() -> None:
    release = threading.Event()

    def wait() -> None:
        release.wait(5)

    trainer = Trainer(wait, steps=(0.0, 0.01, 0.19, 0.01, 0.01))
    beat = trainer.until(lambda beat: bool(beat.stack))
    release.set()
    assert beat.still_seconds < 0.9  # and not five times 0.19


def test_what_is_no_step_says_nothing_of_steps_and_may_hang_too() -> None:
    release, beats = threading.Event(), list[Beat]()

    def look_at_a_dead_store() -> None:
        release.wait(5)

    with Heartbeat(0, beats.append) as heartbeat:
        for number in range(4):
            heartbeat.step(number)
            with heartbeat.pause():
                time.sleep(0.15)
        assert not any(beat.stack for beat in beats)
        with heartbeat.pause():
            threading.Timer(0.5, release.set).start()
            look_at_a_dead_store()
    assert any("look_at_a_dead_store" in beat.stack for beat in beats)


def test_the_last_beat_says_that_it_is_the_last() -> None:
    trainer = Trainer(lambda: None)
    trainer.join(5)
    assert [beat.last for beat in trainer.beats][-1:] == [True]
    assert sum(beat.last for beat in trainer.beats) == 1


def beat(rank: int, images_seen: int = 8, stack: str = "", *, last: bool = False) -> Beat:
    return Beat(rank, "host", 100 + rank, images_seen, 31.0, stack, last)


def test_a_hung_rank_is_named_once_for_a_place() -> None:
    monitor = HeartbeatMonitor()
    for _ in range(3):
        monitor.record_beat(beat(0))
        monitor.record_beat(beat(1, stack="in read"))
    assert [line.partition(" (")[0] for line in monitor.find_hung()] == ["rank 1"]
    assert monitor.find_hung() == []
    monitor.record_beat(beat(1, images_seen=12, stack="in read"))
    assert len(monitor.find_hung()) == 1


def test_a_silent_rank_is_named_and_one_that_ended_is_not() -> None:
    monitor = HeartbeatMonitor()
    for of in (beat(0), beat(1), beat(1, last=True)):
        monitor.record_beat(of)
    assert monitor.find_hung() == []
    time.sleep(0.25)
    (line,) = monitor.find_hung()
    assert line.startswith("silent for ")
    assert " s: rank 0 (process 100 on host)" in line


def test_a_fault_of_a_rank_counts_before_the_loss_of_another() -> None:
    monitor = HeartbeatMonitor()
    assert monitor.begin(0, 2) == (1, 0)
    monitor.record_fault("rank 1: another rank was lost: Connection closed", own=False)
    monitor.record_fault("rank 0: no space", own=True)
    monitor.record_fault("rank 2: something later", own=True)
    assert monitor.begin(0, 2) == (2, 1)
    assert monitor.describe_ends() == "rank 0: no space"
    assert monitor.drain_messages() == ["2 ranks go on at 0 images: rank 0: no space"]


def test_a_rank_that_cannot_say_why_was_killed_and_who_lost_it_says_that() -> None:
    monitor = HeartbeatMonitor()
    monitor.begin(8, 2)
    monitor.begin(8, 2)
    assert monitor.describe_ends() == "processes were killed"
    monitor.record_fault("rank 1: another rank was lost: Connection closed", own=False)
    assert monitor.begin(8, 2) == (3, 0)
    assert monitor.describe_ends() == "processes were killed; then rank 1: another rank was lost: Connection closed"
    assert monitor.begin(16, 2) == (1, 0)
    assert monitor.describe_ends() == ""


def test_each_end_is_reported_as_what_it_was_and_all_of_them_at_the_last() -> None:
    monitor = HeartbeatMonitor()
    monitor.begin(8, 1)
    monitor.record_fault("rank 0: S3 is away", own=True)
    for number in (2, 3, 4):
        assert monitor.begin(8, 1) == (number, 1)
    ends = [line.partition("images: ")[2] for line in monitor.drain_messages()]
    assert ends == ["rank 0: S3 is away", "processes were killed", "processes were killed"]
    assert monitor.describe_ends() == "rank 0: S3 is away; then processes were killed"


def test_nodes_that_are_lost_one_after_the_other_are_no_faults() -> None:
    monitor = HeartbeatMonitor()
    monitor.begin(8, 4)
    for ranks in (3, 2, 1):
        monitor.record_fault("rank 0: another rank was lost", own=False)
        assert monitor.begin(8, ranks)[1] == 0


def test_a_place_that_cannot_be_read_is_a_start_at_the_same_clock() -> None:
    monitor = HeartbeatMonitor()
    monitor.begin(8, 2)
    monitor.record_fault("rank 0: access denied", own=True)
    assert monitor.begin(None, 2) == (2, 1)


def test_another_number_of_ranks_is_a_start_and_no_fault() -> None:
    monitor = HeartbeatMonitor()
    for number, ranks in enumerate((2, 1, 2), 1):
        assert monitor.begin(8, ranks) == (number, 0)
    assert monitor.drain_messages() == [
        f"{who} on at 8 images: their number has changed" for who in ("1 rank goes", "2 ranks go")
    ]


def test_what_all_ranks_say_is_said_once() -> None:
    monitor = HeartbeatMonitor()
    for _ in range(3):
        monitor.add_message("checkpoint refused")
    assert monitor.drain_messages() == ["checkpoint refused"]
    assert monitor.drain_messages() == []


def test_waiting_is_said_once_a_while_and_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat_module, "_WAITING_SECONDS", 0.1)
    monitor = HeartbeatMonitor()
    assert monitor.measure_wait() == 0.0
    time.sleep(0.15)
    first = monitor.measure_wait()
    assert first > 0.1
    assert monitor.measure_wait() == 0.0
    time.sleep(0.15)
    assert monitor.measure_wait() > first + 0.1
    time.sleep(0.15)
    monitor.record_beat(beat(0))
    assert monitor.measure_wait() == 0.0
