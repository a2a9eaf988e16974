"""Checkpoints: bit-equal tensors, two kept, the newest whole one taken, nothing counted before its state is there."""

import logging
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from torch import Tensor

from infra import storage
from pipelines.checkpoints import STATE_FILE, Checkpoint, find_latest_checkpoint, open_checkpoint, save_checkpoint
from pipelines.records import CorruptDataError, UsageError

HARMS: Final = ("flipped", "cut", "empty", "gone")
STATE: dict[str, Any] = {"seed": 7, "stage": "warm up", "loss": 0.1 + 0.2, "history": [1, None, {"a": True}]}


def tensors_at(clock: int) -> dict[str, dict[str, Tensor]]:
    """Generator and critic whose numbers tell the clock."""
    return {"generator": {"w": torch.full((3, 2), float(clock))}, "critic": {"b": torch.arange(4) + clock}}


def saved(out: Path, *clocks: int) -> list[Checkpoint]:
    """Checkpoints of a run at these clocks, in turn."""
    return [save_checkpoint(str(out), tensors_at(c), STATE | {"images_seen": c}) for c in clocks]


def folders(out: Path) -> list[int]:
    """The clocks of which something is there."""
    return sorted(int(p.name) for p in (out / "checkpoints").iterdir())


def flip(path: Path) -> None:
    """Changes one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def harm(path: Path, how: str) -> None:
    """Damages a file in one of four ways."""
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "flipped":
        flip(path)
    else:
        path.write_bytes(data[: len(data) // 2] if how == "cut" else b"")


def bits(tensor: Tensor) -> tuple[str, tuple[int, ...], bytes]:
    """Type, shape and bytes of a tensor in the order of its indices."""
    flat = tensor.contiguous().reshape(-1)
    return str(tensor.dtype), tuple(tensor.shape), bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b""


def odd_tensors() -> dict[str, Tensor]:
    """Tensors of many types and layouts."""
    noise = torch.randn((2, 3, 4, 5), generator=torch.Generator().manual_seed(0))
    return {
        "plain": noise,
        "channels last": noise.to(memory_format=torch.channels_last),
        "transposed": noise.permute(3, 1, 0, 2),
        "strided": noise[:, :, ::2, 1:],
        "expanded": torch.arange(3.0).expand(4, 3),
        "special": torch.tensor([float("nan"), -0.0, 0.0, float("inf"), 1e-45]),
        "odd nan": torch.tensor([0x7FC12345, -1], dtype=torch.int32).view(torch.float32),
        "half": noise.to(torch.bfloat16),
        "double": noise.to(torch.float64) / 3,
        "step": torch.tensor(123456789012345),
        "mask": noise > 0,
        "none": torch.zeros((0, 5)),
        "learned": torch.nn.Parameter(noise[0].clone()),
    }


def test_tensors_come_back_bit_by_bit(tmp_path: Path) -> None:
    tensors = odd_tensors()
    save_checkpoint(str(tmp_path), {"all": tensors}, {"images_seen": 1})
    found = find_latest_checkpoint(str(tmp_path))
    assert found is not None
    back = found.tensors("all")
    assert {name: bits(t) for name, t in back.items()} == {name: bits(t.detach()) for name, t in tensors.items()}


def test_the_state_comes_back_as_it_was(tmp_path: Path) -> None:
    (written,) = saved(tmp_path, 64)
    found = find_latest_checkpoint(str(tmp_path))
    assert found == written
    assert found is not None
    assert {name: found.state[name] for name in STATE} == STATE
    assert found.images_seen == 64


def test_the_same_tensors_have_the_same_digest(tmp_path: Path) -> None:
    (first,), (second,) = saved(tmp_path / "a", 8), saved(tmp_path / "b", 8)
    assert first.state["files"] == second.state["files"]
    assert first.file_sha256("generator") != first.file_sha256("critic")


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, 8, 16, 24, 100, 1000)
    assert folders(tmp_path) == [100, 1000]
    found = find_latest_checkpoint(str(tmp_path))
    assert found is not None
    assert found.images_seen == 1000


def test_without_any_there_is_none(tmp_path: Path) -> None:
    assert find_latest_checkpoint(str(tmp_path)) is None
    assert find_latest_checkpoint(str(tmp_path / "nowhere")) is None
    with pytest.raises(UsageError, match=f"no checkpoint at {tmp_path}: give a folder with {STATE_FILE}"):
        open_checkpoint(str(tmp_path))


@pytest.mark.parametrize("name", ["generator.safetensors", "critic.safetensors", STATE_FILE])
@pytest.mark.parametrize("how", HARMS)
def test_a_damaged_newest_is_named_and_the_older_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, how: str
) -> None:
    _, newest = saved(tmp_path, 8, 16)
    path = Path(newest.uri) / name
    harm(path, how)
    with caplog.at_level(logging.WARNING):
        found = find_latest_checkpoint(str(tmp_path))
    assert found is not None
    assert found.images_seen == 8
    assert found.tensors("generator")["w"].tolist() == [[8, 8], [8, 8], [8, 8]]
    (warning,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert str(path) in warning.getMessage()


def test_two_damaged_ones_are_a_fault_and_no_new_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for checkpoint in saved(tmp_path, 8, 16):
        flip(Path(checkpoint.uri) / "generator.safetensors")
    with pytest.raises(CorruptDataError, match=f"none of the 2 checkpoints of {tmp_path} is whole"):
        find_latest_checkpoint(str(tmp_path))
    assert len(caplog.records) == 2
    with pytest.raises(
        CorruptDataError, match=r"000000000016/generator\.safetensors is damaged.* No other .* is whole"
    ):
        open_checkpoint(str(tmp_path))


@pytest.mark.parametrize("name", ["generator.safetensors", STATE_FILE])
@pytest.mark.parametrize("how", HARMS)
def test_readers_refuse_a_damaged_newest_and_name_the_older(tmp_path: Path, name: str, how: str) -> None:
    older, newest = saved(tmp_path, 8, 16)
    harm(Path(newest.uri) / name, how)
    for uri in (str(tmp_path), newest.uri, f"{newest.uri}/"):
        with pytest.raises(CorruptDataError, match=rf"000000000016/{name}.*: give {older.uri} to use that one"):
            open_checkpoint(uri)
    assert open_checkpoint(older.uri) == older


@pytest.mark.parametrize("how", HARMS)
def test_readers_do_not_read_what_filling_does_not_need(tmp_path: Path, how: str) -> None:
    _, newest = saved(tmp_path, 8, 16)
    harm(Path(newest.uri) / "critic.safetensors", how)
    assert open_checkpoint(str(tmp_path)) == newest
    assert open_checkpoint(newest.uri) == newest


def test_a_damaged_file_is_never_handed_out(tmp_path: Path) -> None:
    (checkpoint,) = saved(tmp_path, 8)
    flip(Path(checkpoint.uri) / "critic.safetensors")
    again = open_checkpoint(checkpoint.uri)
    assert again.tensors("generator")["w"].shape == (3, 2)
    with pytest.raises(CorruptDataError, match=r"critic\.safetensors is damaged"):
        again.tensors("critic")


def test_a_damaged_state_is_refused_where_it_is_asked_for_by_name(tmp_path: Path) -> None:
    (checkpoint,) = saved(tmp_path, 8)
    flip(Path(checkpoint.uri) / STATE_FILE)
    with pytest.raises(CorruptDataError, match=STATE_FILE):
        open_checkpoint(checkpoint.uri)


def test_a_checkpoint_without_state_does_not_count(tmp_path: Path) -> None:
    older, newer = saved(tmp_path, 8, 16)
    (Path(newer.uri) / STATE_FILE).unlink()
    assert find_latest_checkpoint(str(tmp_path)) == older
    saved(tmp_path, 24)
    assert older.images_seen in folders(tmp_path)


def test_the_state_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[str] = []
    publish = storage.publish

    def watched(uri: str, data: bytes) -> None:
        published.append(uri.rpartition("/")[2])
        if len(published) == 3:
            raise OSError("the machine stops here")
        publish(uri, data)

    saved(tmp_path, 8)
    monkeypatch.setattr(storage, "publish", watched)
    with pytest.raises(OSError, match="stops here"):
        saved(tmp_path, 16)
    assert published == ["critic.safetensors", "generator.safetensors", STATE_FILE]
    found = find_latest_checkpoint(str(tmp_path))
    assert found is not None
    assert found.images_seen == 8


def test_a_checkpoint_opens_by_its_folder_and_by_its_run(tmp_path: Path) -> None:
    older, newer = saved(tmp_path, 8, 16)
    assert open_checkpoint(str(tmp_path)) == newer
    assert open_checkpoint(older.uri) == older


def test_other_things_in_the_folder_are_no_checkpoints(tmp_path: Path) -> None:
    (checkpoint,) = saved(tmp_path, 8)
    (tmp_path / "checkpoints" / "notes").mkdir()
    (tmp_path / "checkpoints" / "99999").touch()
    assert find_latest_checkpoint(str(tmp_path)) == checkpoint


def test_saving_over_a_damaged_checkpoint_mends_it(tmp_path: Path) -> None:
    _, newer = saved(tmp_path, 8, 16)
    flip(Path(newer.uri) / "generator.safetensors")
    saved(tmp_path, 16)
    found = find_latest_checkpoint(str(tmp_path))
    assert found is not None
    assert found.images_seen == 16
    assert folders(tmp_path) == [8, 16]


def test_of_later_ones_the_damaged_go_and_the_whole_ones_stay(tmp_path: Path) -> None:
    _, damaged = saved(tmp_path / "a", 16, 24)
    flip(Path(damaged.uri) / "generator.safetensors")
    saved(tmp_path / "a", 16)
    assert folders(tmp_path / "a") == [16]
    saved(tmp_path / "b", 32, 40)
    saved(tmp_path / "b", 8, 16, 24)  # of a command that has slept while another one trained
    assert folders(tmp_path / "b") == [16, 24, 32, 40]


def test_checkpoints_live_on_any_storage() -> None:
    out = "memory://checkpoints-test/run"
    for clock in (8, 16, 24):
        save_checkpoint(out, tensors_at(clock), STATE | {"images_seen": clock})
    found = find_latest_checkpoint(out)
    assert found is not None
    assert found.tensors("critic")["b"].tolist() == [24, 25, 26, 27]
    storage.remove(out)
