"""Files of weights: each is the one that its digest says, or it is refused with what to do."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from infra.weights import FILES, WeightsError, hash_weights, load_weights, publish_weights, resolve_weights_folder
from tests.weights import REAL, real_weights


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights, which the environment names."""
    monkeypatch.setenv("LACUNA_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def tensors(seed: int = 0) -> dict[str, Tensor]:
    return {"features.0.weight": torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed))}


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_what_was_kept_is_read_again(folder: Path) -> None:
    digest = publish_weights(str(folder), "vgg19_features", tensors(), "vgg19-dcbb9e9d.pth", "ab" * 32)
    (state,) = load_weights(["vgg19_features"]).values()
    assert torch.equal(state["features.0.weight"], tensors()["features.0.weight"])
    assert hash_weights(["vgg19_features"]) == {"vgg19_features": digest}
    assert digest == hashlib.sha256((folder / "vgg19_features.safetensors").read_bytes()).hexdigest()
    record = json.loads((folder / "vgg19_features.json").read_bytes())
    assert record == {"sha256": digest, "source": "vgg19-dcbb9e9d.pth", "source_sha256": "ab" * 32}


def test_half_precision_is_kept_as_floats_of_32_bits(folder: Path) -> None:
    halves = {name: tensor.half() for name, tensor in tensors().items()}
    publish_weights(str(folder), "vgg19_features", halves, "vgg19-dcbb9e9d.pth", "")
    assert load_weights(["vgg19_features"])["vgg19_features"]["features.0.weight"].dtype == torch.float32


@pytest.mark.parametrize("name", list(FILES))
def test_an_absent_file_is_said_with_what_it_holds_where_it_goes_and_what_makes_it(folder: Path, name: str) -> None:
    with pytest.raises(WeightsError) as fault:
        load_weights([name])
    words = str(fault.value)
    assert words.startswith(f"no file at {folder}/{name}.safetensors: it holds {FILES[name].what}; ")
    assert f"`lacuna weights {FILES[name].sources[0]} --out {folder}`" in words
    assert all(source in words for source in FILES[name].sources)
    assert "nothing is downloaded" in words


@pytest.mark.parametrize("name", [name for name, file in FILES.items() if file.sha256])
def test_another_file_under_a_pinned_name_is_refused_with_both_digests(folder: Path, name: str) -> None:
    save_file(tensors(), folder / f"{name}.safetensors")
    digest = hashlib.sha256((folder / f"{name}.safetensors").read_bytes()).hexdigest()
    for read in (load_weights, hash_weights):
        with pytest.raises(
            WeightsError, match=rf"{name}.safetensors has the digest {digest}, not {FILES[name].sha256}"
        ):
            read([name])


def test_other_tensors_are_not_kept_under_a_pinned_name(folder: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"x.pth does not .*: vgg16_features.safetensors would have the digest \w+, not cabd"
    ):
        publish_weights(str(folder), "vgg16_features", tensors(), "x.pth", "")
    assert list(folder.iterdir()) == []


def test_a_changed_byte_is_found_in_a_file_that_is_not_pinned(folder: Path) -> None:
    digest = publish_weights(str(folder), "vgg19_features", tensors(), "vgg19-dcbb9e9d.pth", "")
    flip_byte(folder / "vgg19_features.safetensors")
    with pytest.raises(WeightsError, match=rf"has the digest \w+, not {digest}: it is damaged or another file"):
        load_weights(["vgg19_features"])


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, "vgg19_features.safetensors has no record at .*vgg19_features.json"),
        (b"{", "is not a record"),
        (b"[]", "is not a record"),
    ],
)
def test_a_file_that_is_not_pinned_is_not_believed_without_its_record(
    folder: Path, record: bytes | None, words: str
) -> None:
    publish_weights(str(folder), "vgg19_features", tensors(), "vgg19-dcbb9e9d.pth", "")
    (folder / "vgg19_features.json").unlink()
    if record is not None:
        (folder / "vgg19_features.json").write_bytes(record)
    with pytest.raises(WeightsError, match=words):
        load_weights(["vgg19_features"])


def test_weights_of_ones_own_are_read_under_any_name(folder: Path) -> None:
    digest = publish_weights(str(folder), "spn_places2", tensors(), "run/checkpoints/000000000008", "ab" * 32)
    assert hash_weights(["spn_places2"]) == {"spn_places2": digest}
    (state,) = load_weights(["spn_places2"]).values()
    assert torch.equal(state["features.0.weight"], tensors()["features.0.weight"])


def test_own_weights_need_their_record_and_unchanged_bytes(folder: Path) -> None:
    digest = publish_weights(str(folder), "spn_places2", tensors(), "run", "")
    flip_byte(folder / "spn_places2.safetensors")
    with pytest.raises(WeightsError, match=rf"has the digest \w+, not {digest}: .* --name spn_places2 "):
        load_weights(["spn_places2"])
    (folder / "spn_places2.json").unlink()
    with pytest.raises(WeightsError, match=r"spn_places2.safetensors has no record at .*/spn_places2.json"):
        load_weights(["spn_places2"])


def test_a_missing_file_of_no_published_name_is_reported_with_what_makes_it(folder: Path) -> None:
    with pytest.raises(WeightsError) as fault:
        load_weights(["vgg11"])
    words = str(fault.value)
    assert words.startswith(f"no file at {folder}/vgg11.safetensors: it holds your own weights (")
    assert all(name in words for name in FILES)
    assert f"`lacuna weights --checkpoint URI --name vgg11 --out {folder}`" in words


def test_the_folder_is_that_of_the_environment_or_of_where_one_stands(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_weights_folder() == str(folder)
    monkeypatch.delenv("LACUNA_WEIGHTS")
    monkeypatch.chdir(tmp_path)
    assert resolve_weights_folder() == str(tmp_path / "weights")


@REAL
@pytest.mark.realdata
@pytest.mark.parametrize("name", ["vgg16_features", "alexnet_features", "lpips_alex_v0.1", "lpips_vgg_v0.1"])
def test_real_weights_are_the_pinned_ones_and_are_written_as_the_same_bytes(name: str, tmp_path: Path) -> None:
    digests = hash_weights([name])
    assert digests == {name: FILES[name].sha256}
    assert publish_weights(str(tmp_path), name, real_weights(name), "their own", "") == digests[name]
