"""Every named recipe: it builds, it says who it is, and what cannot work is refused before any work."""

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from jobs.recipes import RECIPES
from jobs.recipes.distill import ABLATIONS, BACKBONES
from nets import build_network, build_objective
from nets.objective import Objective
from pipelines.records import UsageError, canonical_json
from pipelines.stream.config import StreamConfig
from pipelines.training.dry_run import dry_run
from pipelines.training.recipe import AdamConfig
from tests.making import train_recipe
from tests.nets.configs import WEIGHTS

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.filterwarnings("ignore:.*to a meta parameter in the current model:UserWarning"),
]


@pytest.fixture(params=RECIPES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@cache
def objective(name: str) -> Objective:
    """The learning step of a recipe, with shapes and no numbers: the large ones would take seconds."""
    weights = {file: {key: tensor.to("meta") for key, tensor in state.items()} for file, state in WEIGHTS.items()}
    with torch.device("meta"):
        return build_objective(RECIPES[name]().objective, weights)


def num_parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_a_recipe_has_the_name_it_is_listed_under(name: str) -> None:
    assert RECIPES[name]().name == name


def test_a_recipe_is_json_and_the_same_each_time(name: str) -> None:
    described = RECIPES[name]().as_json()
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert canonical_json(described) == canonical_json(RECIPES[name]().as_json())


def test_recipes_are_unlike() -> None:
    assert len({canonical_json(make().as_json()) for make in RECIPES.values()}) == len(RECIPES)


def test_a_recipe_trains_every_network_that_its_stages_name(name: str) -> None:
    recipe = RECIPES[name]()
    trained = {network for stage in objective(name).stages for phase in stage.phases for network in phase.trains}
    assert trained == set(recipe.optimizers) == set(objective(name).networks)
    assert objective(name).stages[-1].until_images is None


def test_the_clock_reaches_every_stage_on_a_whole_step(name: str) -> None:
    recipe = RECIPES[name]()
    ends = [stage.until_images for stage in objective(name).stages[:-1]]
    assert all(end is not None and 0 < end < recipe.images and end % recipe.batch_size == 0 for end in ends)


def test_a_recipe_ends_on_a_whole_step_and_its_learning_rates_never_rise(name: str) -> None:
    recipe = RECIPES[name]()
    assert recipe.images % recipe.batch_size == 0
    factors = [recipe.compute_learning_rate_factor(recipe.images * n // 100) for n in range(101)]
    assert factors[0] == 1.0
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == 0.0 or recipe.constant_images == recipe.images


def test_the_generator_can_be_built_again_from_its_description(name: str) -> None:
    description = json.loads(json.dumps(RECIPES[name]().network))
    with torch.device("meta"):
        again = build_network(description)
    assert num_parameters(again) == num_parameters(objective(name).networks["generator"])


@pytest.mark.parametrize("name", ["distill-places2", "distill-celeba", "distill-paris"])
def test_distillation_has_its_numbers_of_parameters(name: str) -> None:
    networks = objective(name).networks
    counts = {"generator": 5_280_508, "auxiliary": 5_213_187, "alignment": 524_544, "meta": 132_483}
    assert {name: num_parameters(network) for name, network in networks.items()} == counts


COMPARED = {
    "faces": ("distill-faces", "distill-net1-faces", "distill-baseline-faces"),
    "Table 2": ("distill-places2", *(f"distill-{name}-places2" for name in ABLATIONS)),
    "Table 3": tuple(f"{name}-places2" for name in BACKBONES),
}


@pytest.mark.parametrize("table", ["faces", "Table 2"])
def test_distillations_that_are_compared_have_equal_networks_in_size(table: str) -> None:
    counts = [num_parameters(objective(name).networks["generator"]) for name in COMPARED[table]]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("table", COMPARED)
def test_generators_that_are_compared_see_as_many_photos(table: str) -> None:
    before = [objective(name).stages[0].until_images or 0 for name in COMPARED[table]]
    assert len({RECIPES[name]().images - alone for name, alone in zip(COMPARED[table], before, strict=True)}) == 1


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("mhtma-atma-celebahq", "mhtma-celebahq"),
        ("mhtma-contextual-celebahq", "mhtma-celebahq"),
        ("mhtma-wgan-celebahq", "mhtma-celebahq"),
        ("spl-celeba", "spn-celeba"),
        ("spl-places2", "spn-places2"),
        ("distill-net7-places2", "distill-places2"),
    ],
)
def test_what_is_compared_differs_in_its_objective_alone(name: str, full: str) -> None:
    other, whole = RECIPES[name](), RECIPES[full]()
    assert other.objective != whole.objective
    assert replace(other, name=whole.name, objective=whole.objective) == whole


@pytest.mark.parametrize(
    ("name", "epochs", "prior"),
    [
        ("spn-paris", 75, 60),
        ("spn-probabilistic-paris", 70, 60),
        ("spn-probabilistic-celebahq", 70, 60),
        ("spl-paris", 70, 60),
    ],
)
def test_epochs_are_those_of_the_authors_read_me_files(name: str, epochs: int, prior: int) -> None:
    recipe = RECIPES[name]()
    photos = {"paris": 14_896, "celebahq": 27_000}[name.rpartition("-")[2]]
    assert recipe.images == epochs * photos
    assert recipe.lr_milestones == ((50 * photos, 0.1),)
    assert recipe.objective.prior_until_images == prior * photos
    assert recipe.compute_learning_rate_factor(recipe.images) == 0.1


def test_the_printed_distillation_replaces_features_and_guides_in_every_step() -> None:
    printed, ours = (RECIPES[name]() for name in ("distill-printed-places2", "distill-places2"))
    assert (printed.objective.network.additive_fusion, printed.objective.guidance.every) == (False, 1)
    network, guidance = (
        replace(ours.objective.network, additive_fusion=False),
        replace(ours.objective.guidance, every=1),
    )
    assert printed.objective == replace(ours.objective, network=network, guidance=guidance)
    assert replace(printed, name=ours.name, objective=ours.objective) == ours


def test_learning_rates_drop_at_their_clocks() -> None:
    recipe = train_recipe(images=32, constant_images=32, lr_milestones=((8, 0.1), (16, 0.5)))
    assert [recipe.compute_learning_rate_factor(n) for n in (0, 4, 8, 12)] == [1, 1, 0.1, 0.1]
    assert [recipe.compute_learning_rate_factor(n) for n in (16, 28, 32)] == pytest.approx([0.05] * 3)


def test_drops_and_the_fall_to_zero_are_multiplied() -> None:
    recipe = train_recipe(images=32, constant_images=16, lr_milestones=((24, 0.1),))
    assert [recipe.compute_learning_rate_factor(n) for n in (16, 20, 24, 28, 32)] == pytest.approx(
        [1, 0.75, 0.05, 0.025, 0]
    )


def test_the_paper_has_its_number_of_parameters() -> None:
    networks = objective("deepgin-celebahq").networks
    assert num_parameters(networks["generator"]) == 42_930_186
    assert num_parameters(networks["critic"]) == 3_421_568


def test_only_the_full_recipes_need_weights_of_others() -> None:
    needs = {name: make().objective.needs_weights for name, make in RECIPES.items() if name.startswith("deepgin")}
    assert needs["deepgin-celebahq"] == needs["deepgin-ade20k"] == ("vgg19_features",)
    assert needs["deepgin-demo"] == needs["deepgin-faces"] == ()


def test_faces_and_demo_differ_in_how_photos_are_cut_and_where_a_fill_begins() -> None:
    faces, demo = RECIPES["deepgin-faces"](), RECIPES["deepgin-demo"]()
    assert replace(faces.stream, resize="random-square", augment=demo.stream.augment) == demo.stream
    assert replace(faces.objective.network, smoothing_sweeps=4) == demo.objective.network
    assert demo.images < faces.images


@pytest.mark.parametrize("field", ["checkpoint_images", "metric_images"])
def test_an_interval_that_is_no_multiple_of_the_batch_is_refused(field: str) -> None:
    with pytest.raises(
        UsageError, match="recipe tiny: checkpoint_images and metric_images must be multiples of the batch size 4"
    ):
        train_recipe(**{field: 10})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0: use a whole number"),
        ({"images": 32.0}, r"images is 32\.0: use a whole number"),
        ({"checkpoint_images": -8}, "checkpoint_images is -8: use"),
        ({"metric_images": 0}, "metric_images is 0: use"),
        ({"watched_photos": 0}, "watched_photos is 0: use"),
        ({"early_stop_images": 0}, "early_stop_images is 0: use"),
        ({"average_images": -1}, "average_images is -1: use"),
        ({"grad_accumulation": 0}, "grad_accumulation is 0: use"),
        ({"constant_images": 64}, "constant_images is 64: use 0 to 32, its images"),
        ({"lr_milestones": ((8, float("nan")),)}, "a milestone is .*nan.*: use"),
    ],
)
def test_a_number_that_cannot_be_is_refused_by_its_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"recipe tiny: {words}"):
        train_recipe(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": -1e-4}, "learning_rate is -0.0001"),
        ({"weight_decay": float("inf")}, "weight_decay is inf"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0"),
        ({"betas": (0.5, 1.0)}, "betas are .*1.0"),
    ],
)
def test_an_optimizers_number_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        AdamConfig(**({"learning_rate": 1e-4} | changes))


def test_a_size_that_the_network_cannot_halve_is_refused_before_any_work() -> None:
    recipe = train_recipe(stream=StreamConfig(size_px=40, num_lanes=4, block_size=8))
    with pytest.raises(UsageError, match="input is 40x40 px: height and width must be multiples of 16"):
        dry_run(recipe, {})


def test_an_unknown_objective_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"objective is a dict: use one of DeepGINObjectiveConfig, "):
        train_recipe(objective={})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resize": "sqash"}, "unknown resize 'sqash': use one of .*squash"),
        ({"masks": ("rectangle", "star")}, "unknown mask family 'star': use one of .*brush"),
    ],
)
def test_an_unknown_name_in_the_stream_is_refused_with_those_there_are(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        StreamConfig(**changes)
