"""Whatever fills holes leaves known pixels alone, says what it is, and is refused by a name that is none."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nets.filling import Procedure
from pipelines.checkpoints import open_checkpoint
from pipelines.evaluation.models import Filler, Pictures, make_network_filler, make_network_model, open_model
from pipelines.records import CorruptDataError, UsageError
from pipelines.training.run import TrainRun


def picture(seed: int, height: int, width: int) -> Pictures:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def holes(seed: int, height: int, width: int, share: float) -> Pictures:
    return (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)


@pytest.fixture(scope="module")
def network(trained: TrainRun) -> Filler:
    return make_network_model(open_checkpoint(trained.out)).fill


def assert_known_pixels_stay(fill: Filler, images: Pictures, masks: Pictures) -> None:
    filled = fill(images.copy(), masks.copy())
    assert filled.shape == images.shape
    assert filled.dtype == np.uint8
    known = masks == 0
    assert np.array_equal(filled[known], images[known])


@pytest.mark.parametrize("name", ["telea", "navier-stokes"])
@settings(max_examples=40)
@given(seed=st.integers(0, 9999), height=st.integers(4, 40), width=st.integers(4, 40), share=st.floats(0.01, 0.95))
def test_a_classical_fill_leaves_known_pixels_alone(
    name: str, seed: int, height: int, width: int, share: float
) -> None:
    images = np.stack([picture(seed, height, width), picture(seed + 1, height, width)])
    masks = np.stack([holes(seed, height, width, share), holes(seed + 1, height, width, share)])
    assert_known_pixels_stay(open_model(name).fill, images, masks)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 40), (50, 70), (64, 33), (17, 90)])
def test_a_network_leaves_known_pixels_alone_at_any_size(network: Filler, height: int, width: int) -> None:
    images = np.stack([picture(seed, height, width) for seed in (1, 2)])
    masks = np.stack([holes(seed, height, width, 0.3) for seed in (1, 2)])
    assert_known_pixels_stay(network, images, masks)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 32), (50, 70)])
def test_known_pixels_stay_whatever_a_network_does_to_them(height: int, width: int) -> None:
    class Careless(nn.Module):
        """Paints everything the same dark gray."""

        def forward(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
            painted = torch.full_like(image, 51 / 255)
            return {"inpainted": painted, "predicted": painted}

    images, masks = picture(1, height, width)[None], holes(1, height, width, 0.3)[None]
    assert_known_pixels_stay(make_network_filler(Careless(), 32), images, masks)
    fill = make_network_filler(Careless(), 32, Procedure("polyphase"))
    assert_known_pixels_stay(fill, images, masks)
    assert (fill(images, masks)[masks == 1] == 51).all()


@pytest.mark.parametrize("name", ["telea", "navier-stokes"])
def test_a_classical_fill_continues_a_flat_surrounding(name: str) -> None:
    images, masks = np.full((1, 24, 24, 3), 90, np.uint8), np.zeros((1, 24, 24), np.uint8)
    masks[0, 8:16, 8:16] = 1
    images[0, 8:16, 8:16] = 255
    filled = open_model(name).fill(images, masks)
    assert np.abs(filled.astype(int) - 90).max() <= 2


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 32), (50, 70), (45, 32)])
def test_what_lies_under_the_hole_is_not_looked_at(network: Filler, height: int, width: int) -> None:
    images, masks = picture(3, height, width)[None], np.zeros((1, height, width), np.uint8)
    masks[0, 10:25, 8:21] = 1
    other = np.where(masks[..., None] == 1, 255 - images, images)
    assert np.array_equal(network(images, masks), network(other, masks))


def test_pictures_of_a_batch_do_not_see_each_other(network: Filler) -> None:
    images, masks = (
        np.stack([picture(n, 32, 32) for n in range(3)]),
        np.stack([holes(n, 32, 32, 0.3) for n in range(3)]),
    )
    together = network(images, masks).astype(int)
    alone = np.concatenate([network(images[n : n + 1], masks[n : n + 1]) for n in range(3)])
    assert np.abs(together - alone).max() <= 1


def test_models_say_what_they_are(trained: TrainRun) -> None:
    telea, checkpoint = open_model("telea").identity, open_checkpoint(trained.out)
    assert telea["model"] == "telea"
    assert set(telea) == {"model", "opencv"}
    for uri in (trained.out, checkpoint.uri):
        assert open_model(uri).identity == {
            "model": checkpoint.uri,
            "weights_sha256": checkpoint.file_sha256("generator"),
        }


def test_an_unknown_model_is_refused_with_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no checkpoint at .*nothing: give a folder with state\.json, or the --out"):
        open_model(str(tmp_path / "nothing"))


def test_a_misspelt_method_gets_the_known_names() -> None:
    with pytest.raises(UsageError, match="telea"):
        open_model("tela")


def test_a_damaged_checkpoint_fills_nothing(trained: TrainRun, tmp_path: Path) -> None:
    shutil.copytree(open_checkpoint(trained.out).uri, tmp_path / "checkpoint")
    victim = tmp_path / "checkpoint" / "generator.safetensors"
    data = bytearray(victim.read_bytes())
    data[-3] ^= 4
    victim.write_bytes(data)
    with pytest.raises(CorruptDataError, match=r"generator\.safetensors is damaged"):
        open_model(str(tmp_path / "checkpoint"))
