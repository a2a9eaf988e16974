"""The counts of parameters in docs/models.md: each is that of the network that its row names, and none is left out."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from jobs.recipes import RECIPES
from nets import build_network, build_objective, describe_network
from nets.baselines.edge import ECConfig
from nets.baselines.gated import GCConfig
from nets.baselines.partial import PCConfig
from nets.critics import TwoScalePatchCritic
from nets.deepgin.network import DeepGINConfig
from nets.distill.meta import Alignment, MetaNetworks
from nets.distill.network import AuxiliaryNetwork, DistillConfig
from nets.distill.objective import DistillObjectiveConfig, make_variant
from nets.mhtma.critic import GlobalLocalCritic, GlobalLocalCriticConfig
from nets.mhtma.network import MHTMAConfig
from nets.spn.critics import MatchingCritic, PatchCritic
from nets.spn.network import SPLConfig, SPNConfig
from nets.spn.objective import SPNObjectiveConfig
from nets.spn.prior import DistillationHeads
from nets.spn.targets import MapsTarget, PriorTarget, Target, TResNetTarget, VGGTarget
from tests.nets.configs import WEIGHTS
from tests.nets.pictures import count_parameters

pytestmark = pytest.mark.thorough

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
SMALLEST = 130_000
"""Smaller numbers of the page count photos and steps too."""
GENERATORS: dict[str, tuple[Any, int]] = {
    "DeepGIN: StdResBlk, coarse only": (DeepGINConfig(block="standard", coarse_only=True), 8_167_843),
    "DeepGIN: StdResBlk": (DeepGINConfig(block="standard", attention="none", back_projection=False), 40_849_990),
    "DeepGIN: StdResBlk-SA": (DeepGINConfig(block="standard", attention="single", back_projection=False), 41_375_558),
    "DeepGIN: StdResBlk-MSSA": (DeepGINConfig(block="standard", back_projection=False), 42_892_134),
    "DeepGIN: DilatedResBlk-MSSA": (DeepGINConfig(block="dilated", back_projection=False), 42_892_134),
    "DeepGIN: SPDResBlk-MSSA": (DeepGINConfig(back_projection=False), 42_892_134),
    "DeepGIN: SPDResBlk-MSSA-BP": (DeepGINConfig(), 42_930_186),
    "DeepGIN: track 2": (DeepGINConfig(segmentation=True), 42_939_594),
    "SPN: 4 SPADE blocks": (SPNConfig(num_spade_blocks=4), 38_845_187),
    "SPN: 8 SPADE blocks": (SPNConfig(), 50_648_835),
    "SPN: 12 SPADE blocks": (SPNConfig(num_spade_blocks=12), 62_452_483),
    "SPN: priors {64, 128}": (SPNConfig(num_scales=2), 49_135_939),
    "SPN: w/o prior pyramid": (SPNConfig(num_scales=1), 45_004_611),
    "SPN: w/o SPADE": (SPNConfig(fusion="concatenation"), 48_131_203),
    "SPN: probabilistic": (SPNConfig(probabilistic=True), 68_459_075),
    "SPL": (SPLConfig(), 45_558_159),
    "MHTMA": (MHTMAConfig(), 16_169_624),
    "MHTMA: width 24": (MHTMAConfig(24), 4_052_816),
    "MHTMA: w/ ATMA": (MHTMAConfig(attention="atma"), 16_169_624),
    "MHTMA: w/ CA": (MHTMAConfig(attention="contextual"), 15_509_718),
    "MHTMA: sketch-guided": (MHTMAConfig(sketch=True), 16_176_824),
    "MHTMA: convolution alone": (MHTMAConfig(active_heads="convolution"), 16_169_624),
    "MHTMA: attention alone": (MHTMAConfig(active_heads="attention"), 16_169_624),
    "MHTMA: highest temperature alone": (MHTMAConfig(active_heads="highest-temperature"), 16_169_624),
    "MHTMA: lowest temperature alone": (MHTMAConfig(active_heads="lowest-temperature"), 16_169_624),
    "GC, GC-dagger": (GCConfig(), 4_053_678),
    "GC*": (GCConfig(completion=True), 4_070_025),
    "EC": (ECConfig(), 21_533_444),
    "EC*": (ECConfig(completion=True), 21_597_471),
    "EC#": (ECConfig(edges=False, completion=True), 10_833_886),
    "PC": (PCConfig(), 25_784_276),
    "PC*": (PCConfig(completion=True), 25_824_559),
}
TARGETS: dict[str, tuple[Target | None, SPNConfig | SPLConfig, int]] = {
    "w/o ASL": (None, SPNConfig(), 50_648_835),
    "random teacher": (TResNetTarget(weights=None), SPNConfig(), 50_648_835),
    "edges": (MapsTarget("edge"), SPNConfig(), 50_648_835),
    "SPL from an SPN's prior": (PriorTarget("spn", SPNConfig()), SPLConfig(), 45_558_159),
    "VGG-16": (VGGTarget(), SPNConfig(), 50_648_835),
}
TABLE_2: dict[str, tuple[int, int]] = {
    "baseline": (5_280_508, 5_165_251),
    "net1": (5_280_508, 5_165_251),
    "net2": (5_280_508, 5_165_251),
    "net3": (5_280_508, 5_165_251),
    "net4": (5_280_509, 5_196_382),
    "net5": (5_280_509, 5_196_382),
    "net6": (5_280_508, 5_245_918),
    "net7": (5_280_508, 5_245_918),
    "net8": (5_280_508, 5_280_508),
}
"""IN matched, and without matching."""
PARTS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "DeepGIN's critics": (lambda: TwoScalePatchCritic(64), 3_421_568),
    "SPN's and SPL's critic": (PatchCritic, 2_763_776),
    "probabilistic SPN's critic": (MatchingCritic, 2_763_841),
    "SPN's heads": (lambda: DistillationHeads(64, (152, 76, 76)), 53_808),
    "SPL's head": (lambda: DistillationHeads(64, (152,)), 39_064),
    "MHTMA's critic": (lambda: GlobalLocalCritic(GlobalLocalCriticConfig()), 45_056_769),
    "MHTMA's critic, WGAN-GP": (lambda: GlobalLocalCritic(GlobalLocalCriticConfig(), spectral=False), 45_056_768),
    "AN": (lambda: AuxiliaryNetwork(DistillConfig()), 5_213_187),
    "meta-networks": (lambda: MetaNetworks([128] * 3, [128] * 3), 132_483),
    "alignment": (lambda: Alignment([128] * 3), 524_544),
}
SMALL: dict[str, int] = {
    "deepgin-faces": 1_895_626,
    "spn-faces": 265_219,
    "spn-probabilistic-faces": 551_555,
    "spl-faces": 208_159,
    "mhtma-faces": 380_960,
    "mhtma-sketch-faces": 382_160,
    "distill-faces": 166_119,
    "distill-net1-faces": 166_120,
    "distill-baseline-faces": 166_120,
    "spn-faces-128": 3_940_339,
    "spn-faces-128-narrow": 265_219,
}


def count_network_parameters(config: Any) -> int:
    return count_parameters(lambda: build_network(describe_network(config)))


@pytest.mark.parametrize("row", GENERATORS)
def test_a_generator_has_its_count(row: str) -> None:
    config, count = GENERATORS[row]
    assert count_network_parameters(config) == count


@pytest.mark.filterwarnings("ignore:.*to a meta parameter in the current model:UserWarning")
@pytest.mark.parametrize("row", TARGETS)
def test_a_target_of_priors_does_not_change_the_generator(row: str) -> None:
    target, network, count = TARGETS[row]
    with torch.device("meta"):
        spn = build_network(describe_network(SPNConfig())).state_dict()
        of = build_objective(SPNObjectiveConfig(network, target), WEIGHTS | {"spn": spn})
    assert count_parameters(lambda: of.networks["generator"]) == count


@pytest.mark.parametrize("name", TABLE_2)
def test_a_network_of_table_2_has_its_counts(name: str) -> None:
    network = make_variant(name, DistillObjectiveConfig()).network
    assert (count_network_parameters(network), count_network_parameters(replace(network, matched=False))) == TABLE_2[
        name
    ]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_for_training_has_its_count(part: str) -> None:
    build, count = PARTS[part]
    assert count_parameters(build) == count


@pytest.mark.parametrize("recipe", SMALL)
def test_a_small_recipe_has_its_count(recipe: str) -> None:
    assert count_network_parameters(RECIPES[recipe]().objective.network) == SMALL[recipe]


@pytest.mark.parametrize(
    ("network", "heads", "count"),
    [(SPNConfig(), (152, 76, 76), 50_702_643), (SPLConfig(), (152,), 45_597_223)],
    ids=["SPN", "SPL"],
)
def test_the_papers_count_heads_in(network: SPNConfig | SPLConfig, heads: tuple[int, ...], count: int) -> None:
    assert count_network_parameters(network) + count_parameters(lambda: DistillationHeads(64, heads)) == count


def test_the_page_prints_these_counts_and_its_tables_no_others() -> None:
    asserted = {count for _, count in (*GENERATORS.values(), *PARTS.values())} | set(SMALL.values())
    asserted |= {count for counts in TABLE_2.values() for count in counts} | {50_702_643, 45_597_223}
    text = PAGE.read_text()
    assert [count for count in asserted if f"{count:,}" not in text] == []
    rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    numbers = {int(number.replace(",", "")) for number in re.findall(r"\d{1,3}(?:,\d{3})+", rows)}
    assert {number for number in numbers if number >= SMALLEST} <= asserted
