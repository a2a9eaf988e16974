"""The records by which a run decides: `run.json`, `attempt.json` and its points notice a changed byte."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from infra import storage
from infra.world import World
from nets.filling import LOCAL, Procedure
from pipelines.checked_files import seal, unseal
from pipelines.checkpoints import Checkpoint, open_checkpoint
from pipelines.evaluation.models import make_network_model
from pipelines.manifest import Dataset
from pipelines.records import CorruptDataError, JobError, UsageError
from pipelines.run_record import RUN_FILE
from pipelines.training.checkpointer import find_best
from pipelines.training.run import TrainRun, begin_attempt, claim_run, is_superseded, refuse_other_run
from pipelines.training.worker import INCIDENTS, read_incidents, run_rank
from tests.making import train_recipe
from tests.training.test_run import CLOCKS, copy_run, list_committed_clocks, silent


def change_byte(data: bytes, at: int) -> bytes:
    """The bytes with another one at this place; of a digit another digit, which no parser minds."""
    byte = data[at]
    other = ord("0") + (byte - ord("0") + 1) % 10 if chr(byte).isdigit() else byte ^ 1 << random.Random(at).randrange(8)
    return data[:at] + bytes([other]) + data[at + 1 :]


def places(data: bytes) -> list[int]:
    """Some of the places in a file, and every fifth near its end, where seals are."""
    return sorted({*random.Random(0).sample(range(len(data)), 60), *range(len(data) - 250, len(data), 5)})


def test_a_changed_byte_of_the_record_of_a_run_is_named(dataset: Dataset, tmp_path: Path) -> None:
    out, path = str(tmp_path), tmp_path / RUN_FILE
    run_id = claim_run(train_recipe(), (dataset,), out)
    data = path.read_bytes()
    at_run_id = data.index(run_id.encode())
    for at in (*places(data), *range(at_run_id, at_run_id + len(run_id))):
        path.write_bytes(change_byte(data, at))
        with pytest.raises(CorruptDataError, match=rf"{path} is no record of a run: restore it"):
            claim_run(train_recipe(), (dataset,), out)
    with pytest.raises(CorruptDataError, match=rf"{path} is no record of a run: restore it"):
        refuse_other_run(train_recipe(), (dataset,), out)
    path.write_bytes(data)
    assert claim_run(train_recipe(), (dataset,), out) == run_id


@pytest.mark.parametrize(("found", "reader"), [(None, "commit ad14a54"), (3, "the version that wrote it")])
def test_a_run_of_another_format_is_refused_with_what_reads_it(
    dataset: Dataset, tmp_path: Path, found: int | None, reader: str
) -> None:
    claim_run(train_recipe(), (dataset,), str(tmp_path))
    path = tmp_path / RUN_FILE
    record = unseal(path.read_bytes(), "") | {"format": found}
    path.write_bytes(seal({name: value for name, value in record.items() if value is not None}))
    for ask in (claim_run, refuse_other_run):
        with pytest.raises(UsageError, match=f"{RUN_FILE} has format {found or 1}, .*: use {reader}, or train again"):
            ask(train_recipe(), (dataset,), str(tmp_path))


def test_a_checkpoint_of_another_run_is_refused_whichever_is_sealed(
    trained: TrainRun, dataset: Dataset, tmp_path: Path
) -> None:
    """Else a training would go on from weights of other settings, at the clock of this run, without a word."""
    out = copy_run(trained, tmp_path).out
    other = train_recipe(seed=1)
    claim_run(other, (dataset,), str(tmp_path / "other"))
    Path(out, RUN_FILE).write_bytes((tmp_path / "other" / RUN_FILE).read_bytes())
    with pytest.raises(
        CorruptDataError, match=rf"run.json has run_id .*000000000032 has {trained.run_id}: restore what is not"
    ):
        claim_run(other, (dataset,), out)
    with pytest.raises(CorruptDataError, match=r"restore what is not of this run"):  # a dry run says so too
        refuse_other_run(other, (dataset,), out)


def test_every_changed_byte_of_an_attempt_is_named_and_ends_no_training(trained: TrainRun, tmp_path: Path) -> None:
    out = str(tmp_path)
    run = replace(trained, out=out, attempt=begin_attempt(out))
    data = (tmp_path / "attempt.json").read_bytes()
    for at in range(len(data)):
        (tmp_path / "attempt.json").write_bytes(change_byte(data, at))
        with pytest.raises(
            CorruptDataError, match=r"attempt.json does not name the command that trains there: run the same"
        ):
            is_superseded(run)
    (tmp_path / "attempt.json").write_bytes(data)
    assert not is_superseded(run)


def test_a_training_whose_attempt_is_damaged_says_so_and_the_same_command_goes_on(
    trained: TrainRun, tmp_path: Path
) -> None:
    run = replace(trained, out=str(tmp_path / "run"), until_images=8)
    run = replace(run, attempt=begin_attempt(run.out))
    storage.publish(f"{run.out}/attempt.json", b"{}")
    with pytest.raises(CorruptDataError, match="run the same command again"):
        run_rank(run, World(), silent)
    run_rank(replace(run, attempt=begin_attempt(run.out)), World(), silent)
    assert list_committed_clocks(run.out) == CLOCKS[:2]
    with pytest.raises(JobError, match="another command has begun"):
        run_rank(replace(run, until_images=16), World(), silent)


def test_a_changed_byte_of_the_points_is_named(trained: TrainRun, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path)
    path = Path(run.out) / "metrics" / f"{16:012d}.json"
    data, recipe = path.read_bytes(), replace(run.recipe, early_stop_images=64)
    for at in places(data):
        path.write_bytes(change_byte(data, at))
        with pytest.raises(CorruptDataError, match=rf"{path} is no list of points"):
            find_best(run.out, recipe, 32)
    path.write_bytes(data)
    assert list_committed_clocks(run.out) == CLOCKS


def test_a_damaged_account_of_incidents_is_one_more_line(trained: TrainRun, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path)
    uri = f"{run.out}/{INCIDENTS}/{16:012d}-00000.json"
    storage.publish(uri, b'["torn')
    assert read_incidents(run.out) == [f"{uri} is damaged: its incidents of the stream cannot be read"]


def test_records_are_sealed_once(trained: TrainRun) -> None:
    data = (Path(trained.out) / RUN_FILE).read_bytes()
    assert data == seal(unseal(data, ""))
    assert json.loads(data)["run_id"] == trained.run_id


def test_a_checkpoint_of_another_run_fills_nothing(trained: TrainRun, dataset: Dataset, tmp_path: Path) -> None:
    """One that was copied in, at a clock of this run, would be taken for it."""
    out = copy_run(trained, tmp_path).out
    newest = open_checkpoint(out)
    assert newest.images_seen == CLOCKS[-1]
    state = Path(newest.uri, "state.json")
    foreign = unseal(state.read_bytes(), str(state)) | {"run_id": "0" * 16}
    state.write_bytes(seal(foreign))
    for uri in (out, newest.uri):
        words = (
            rf"run.json has run_id {trained.run_id}, .*000000000032 has 0000000000000000: restore what is not of this"
        )
        with pytest.raises(CorruptDataError, match=words):
            open_checkpoint(uri)
    with pytest.raises(CorruptDataError, match=r"give \S*000000000024 to use that one"):
        open_checkpoint(out)
    assert open_checkpoint(f"{out}/checkpoints/000000000024").images_seen == 24


def test_a_procedure_changes_no_identity_and_stands_in_every_checkpoint(
    trained: TrainRun, dataset: Dataset, tmp_path: Path
) -> None:
    recipe = train_recipe(procedure=Procedure("polyphase"))
    assert recipe.as_json() == trained.recipe.as_json()
    run_id = claim_run(train_recipe(), (dataset,), str(tmp_path))
    assert claim_run(recipe, (dataset,), str(tmp_path)) == run_id
    run_rank(
        TrainRun(recipe=recipe, data=(dataset.uri,), out=str(tmp_path), until_images=8, run_id=run_id, tracking_uri=""),
        World(),
        silent,
    )
    opened = open_checkpoint(str(tmp_path))
    assert opened.procedure == Procedure("polyphase")
    assert make_network_model(opened).procedure == "polyphase"
    assert make_network_model(opened, procedure="local").procedure == "local"


def test_a_checkpoint_from_before_procedures_fills_by_the_default(trained: TrainRun, tmp_path: Path) -> None:
    opened = open_checkpoint(trained.out)
    older = {name: value for name, value in opened.state.items() if name != "procedure"}
    assert Checkpoint(opened.uri, older).procedure == LOCAL
