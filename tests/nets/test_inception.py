"""FID's Inception network: keys and numbers of the package pytorch-fid, on random weights that can be made again."""

import pytest
import torch
from torch import Tensor

from nets.inception import load_fid_inception
from tests.weights import random_inception

PARAMETERS = 21_785_568
"""Those of pytorch-fid's network without its classifier."""
GOLDEN = {0: 0.5018397569656372, 500: 0.054086875170469284, 1500: 0.221795454621315, 2047: 0.3280066251754761}
"""Features of the ramp below by pytorch-fid 0.3.0 on the same weights."""
GOLDEN_MEANS = (0.1567442159763996, 0.1602203516119296)


def make_ramp_and_waves() -> Tensor:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    ramp = torch.stack([x / 63, y / 63, (x + y) / 126])
    waves = torch.stack([torch.sin(x / 5) / 2 + 0.5, torch.cos(y / 7) / 2 + 0.5, x * y / 3969])
    return torch.stack([ramp, waves])


def test_features_are_those_of_the_published_network() -> None:
    network = load_fid_inception(random_inception())
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS
    with torch.inference_mode():
        features = network(make_ramp_and_waves())
    assert features.shape == (2, 2048)
    assert {k: features[0, k].item() for k in GOLDEN} == pytest.approx(GOLDEN, rel=1e-5)
    assert features.double().mean(dim=1).tolist() == pytest.approx(GOLDEN_MEANS, rel=1e-6)


def test_a_file_without_counts_of_batches_and_with_a_classifier_is_read() -> None:
    state = {k: t for k, t in random_inception().items() if not k.endswith("num_batches_tracked")}
    load_fid_inception(state | {"fc.weight": torch.zeros(1008, 2048)})


def test_another_file_is_refused() -> None:
    state = random_inception() | {"Mixed_6b.branch7x7_3.conv.weight": torch.zeros(192, 128, 1, 7)}
    with pytest.raises(ValueError, match=r"FID Inception: Mixed_6b.branch7x7_3.conv.weight has the shape \(192, 128"):
        load_fid_inception(state)
