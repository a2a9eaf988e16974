"""Networks of metrics on random weights, and real ones where there are some: batches, regions, missing files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nets.inception import load_fid_inception
from nets.lpips import LPIPS
from pipelines.evaluation.metrics import measure_pairs
from pipelines.evaluation.metrics.networks import (
    INCEPTION_FILE,
    MetricNetworks,
    VGG16Means,
    load_metric_networks,
    measure_diversity,
)
from pipelines.records import UsageError
from tests.evaluation.metric_references import lpips
from tests.evaluation.test_pair_metrics import make_pairs
from tests.weights import REAL, random_alexnet, random_heads, random_inception, random_vgg

HEADS = random_heads(64, 192, 384, 256, 256)
NAMES = ["lpips_alex_hole", "lpips_alex_image"]


@pytest.fixture(scope="module")
def networks() -> MetricNetworks:
    modules = {
        "lpips_alex": LPIPS("alex", random_alexnet(), HEADS),
        "vgg16": VGG16Means(random_vgg(16)),
        "inception": load_fid_inception(random_inception()),
    }
    return MetricNetworks(modules, torch.device("cpu"), {})


def test_lpips_of_picture_and_hole_is_that_of_plain_convolutions(networks: MetricNetworks) -> None:
    pairs = make_pairs(0, 64, 48)
    scores = measure_pairs(*pairs, NAMES, networks)
    for index, (image, mask, fill) in enumerate(zip(*pairs, strict=True)):
        total, plane = lpips("alex", random_alexnet(), HEADS, image, fill)
        assert scores["lpips_alex_image"][index] == pytest.approx(total, rel=1e-5)
        assert scores["lpips_alex_hole"][index] == pytest.approx(plane[mask > 0].mean(), rel=1e-5)


@settings(max_examples=5)
@given(st.integers(0, 100), st.permutations(range(11)))
def test_other_pairs_and_their_number_change_no_digit(networks: MetricNetworks, seed: int, order: list[int]) -> None:
    pairs = make_pairs(seed, 40, 40, count=11)
    together, turned = (
        measure_pairs(*pairs, NAMES, networks),
        measure_pairs(*pairs.select(order), NAMES, networks),
    )
    alone = measure_pairs(*pairs.select([7]), NAMES, networks)
    for name in NAMES:
        assert together[name][order].tolist() == turned[name].tolist()
        assert together[name][7:8].tolist() == alone[name].tolist()


@pytest.mark.parametrize(("network", "width"), [("vgg16", 512), ("inception", 2048)])
def test_features_stay_in_order_and_do_not_depend_on_the_batch(
    networks: MetricNetworks, network: str, width: int
) -> None:
    pictures = make_pairs(1, 32, 32, count=4).images
    features = networks.compute_features(network, pictures)
    assert features.shape == (4, width)
    assert features.dtype == np.float32
    assert features[[2, 3]].tolist() == networks.compute_features(network, pictures[[2, 3]]).tolist()
    assert not np.array_equal(features[2], features[3])


def test_diversity_is_the_mean_over_all_twos(networks: MetricNetworks) -> None:
    one = make_pairs(2, 40, 40, count=2).images
    fills = np.stack([one, one, np.where(one < 128, one + 51, one - 51).astype(np.uint8)])
    scores = measure_diversity(fills, ["diversity_l1", "diversity_lpips_alex"], networks)
    assert scores["diversity_l1"].tolist() == pytest.approx([20 * 2 / 3] * 2)
    distance = measure_pairs(one, one[..., 0] // 200 | np.eye(40, dtype=np.uint8), fills[2], NAMES, networks)
    assert scores["diversity_lpips_alex"].tolist() == pytest.approx(
        (distance["lpips_alex_image"] * 2 / 3).tolist(), rel=1e-5
    )


def test_what_a_network_cannot_take_is_refused(networks: MetricNetworks) -> None:
    pairs = make_pairs(3, 30, 40)
    with pytest.raises(UsageError, match="lpips_alex: pictures are 40x30 px: height and width must be at least 31"):
        measure_pairs(*pairs, NAMES, networks)
    with pytest.raises(UsageError, match="lpips_vgg is not loaded, only lpips_alex, vgg16, inception"):
        measure_pairs(*pairs, ["lpips_vgg_hole"], networks)
    with pytest.raises(UsageError, match="pictures are float64"):
        networks.compute_features("vgg16", pairs.images.astype(np.float64))
    with pytest.raises(UsageError, match="give two or more of each pair"):
        measure_diversity(pairs.images[None], ["diversity_l1"])
    with pytest.raises(UsageError, match="diversity_lpips_alex needs a network"):
        measure_diversity(np.stack([pairs.images, pairs.fills]), ["diversity_lpips_alex"])
    with pytest.raises(UsageError, match="'lpips_alex_image' is a metric of kind pair"):
        measure_diversity(np.stack([pairs.images, pairs.fills]), ["lpips_alex_image"])


def test_a_network_that_returns_no_number_names_the_pair(networks: MetricNetworks) -> None:
    spoiled = LPIPS("alex", random_alexnet(), HEADS | {"lin2.model.1.weight": torch.full((1, 384, 1, 1), torch.nan)})
    with pytest.raises(UsageError, match="lpips_alex_hole of pair 0 is nan: leave the pair or the metric out"):
        measure_pairs(*make_pairs(4, 40, 40), NAMES, replace(networks, modules={"lpips_alex": spoiled}))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lpips_alex_hole", ("alexnet_features.safetensors", "`lacuna weights alexnet-owt-7be5be79.pth --out ")),
        ("kid_vgg16", ("vgg16_features.safetensors", "`lacuna weights vgg16-397923af.pth --out ")),
        ("fid_inception", (INCEPTION_FILE, "LACUNA_WEIGHTS names the folder", "fid_vgg16 needs no such file")),
    ],
)
def test_a_missing_file_is_named_with_the_way_to_get_it(
    name: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LACUNA_WEIGHTS", str(tmp_path))
    with pytest.raises(UsageError, match=f"{name} needs the weights of ") as refusal:
        load_metric_networks(["psnr_hole", name])
    for word in (*words, str(tmp_path), "nothing is downloaded"):
        assert word in str(refusal.value)


def test_another_file_under_the_published_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LACUNA_WEIGHTS", str(tmp_path))
    torch.save(random_inception(), tmp_path / INCEPTION_FILE)
    with pytest.raises(UsageError, match=f"{INCEPTION_FILE} has the digest .*: it is damaged or another file"):
        load_metric_networks(["fid_inception"])


def test_metrics_without_networks_need_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LACUNA_WEIGHTS", str(tmp_path))
    assert load_metric_networks(["psnr_hole", "diversity_l1"]).modules == {}


@REAL
@pytest.mark.realdata
def test_real_files_are_loaded_with_their_digests() -> None:
    networks = load_metric_networks(["lpips_alex_image", "fid_vgg16", "lpips_vgg_hole"])
    assert set(networks.modules) == {"lpips_alex", "vgg16", "lpips_vgg"}
    assert set(networks.digests) == {"alexnet_features", "lpips_alex_v0.1", "vgg16_features", "lpips_vgg_v0.1"}
