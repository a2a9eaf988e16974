"""The weights of terms and the names of recipes in docs/models.md are those of the code."""

import re
from pathlib import Path

import pytest

from jobs.recipes import RECIPES
from nets.baselines.objective import BaselineObjectiveConfig
from nets.deepgin.objective import DeepGINObjectiveConfig
from nets.distill.objective import DistillObjectiveConfig
from nets.mhtma.objective import MHTMAObjectiveConfig
from nets.spn.objective import SPNObjectiveConfig

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
DEEPGIN, SPN, MHTMA = DeepGINObjectiveConfig(), SPNObjectiveConfig(), MHTMAObjectiveConfig()
DISTILL, BASELINE = DistillObjectiveConfig(), BaselineObjectiveConfig()
PRINTED = {
    "## DeepGIN": [
        f"hole x{DEEPGIN.hole_weight:g}",
        f"adversarial {DEEPGIN.adversarial_weight:g}",
        f"total variation {DEEPGIN.total_variation_weight:g}",
        f"perceptual {DEEPGIN.perceptual_weight:g}",
        f"style {DEEPGIN.style_weight:g}",
        f"resized to {DEEPGIN.vgg_size_px}x{DEEPGIN.vgg_size_px}",
    ],
    "## SPN and SPL": [
        f"image {SPN.image_weight:g}",
        f"adversarial {SPN.adversarial_weight:g}",
        f"prior {SPN.prior_weight:g} at each scale (Eq. 4, hole x{1 + SPN.prior_emphasis:g})",
        f"feature matching {SPN.feature_matching_weight:g}",
        f"perceptual {SPN.perceptual_weight:g}",
        f"diversity {SPN.diversity_weight:g}",
        f"divergence {SPN.divergence_weight:g}",
    ],
    "## MHTMA": [
        f"L1 coarse {MHTMA.coarse_weight:g}",
        f"L1 final {MHTMA.final_weight:g}",
        f"perceptual {MHTMA.perceptual_weight:g} on the {MHTMA.perceptual_on} picture",
        f"adversarial {MHTMA.adversarial_weight:g}",
    ],
    "## Distillation-guided": [
        f"L1 by confidence {DISTILL.reconstruction_weight:g}",
        f"style {DISTILL.style_weight:g}",
        *(f"{lesson} {DISTILL.guidance.weight:g}" for lesson in DISTILL.guidance.terms),
        f"every {DISTILL.guidance.every}th step",
    ],
    "## Baselines": [f"the entropy of its edges, {BASELINE.edge_weight:g})"],
}


@pytest.mark.parametrize("section", PRINTED)
def test_a_section_prints_the_weights_of_its_objective(section: str) -> None:
    text = PAGE[PAGE.index(section) :].split("\n## ", 2)[0]
    assert [words for words in PRINTED[section] if not re.search(rf"\b{re.escape(words)}(?![.\d]*\d)", text)] == []


def test_every_recipe_is_named_and_no_other() -> None:
    ablations = {f"distill-net{number}-places2" for number in range(2, 7)}  # "net1 to net7"
    assert [name for name in RECIPES if name not in ablations and f"`{name}`" not in PAGE] == []
    named = re.findall(r"`((?:deepgin|spn|spl|mhtma|distill|gc|ec|pc)-[a-z0-9-]+)`", PAGE)
    assert [name for name in named if name not in RECIPES] == []
