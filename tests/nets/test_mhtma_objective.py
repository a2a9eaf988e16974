"""The critic and the learning step of MHTMA: sizes, the local patch, and what every term is worth."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from nets import build_objective
from nets.features import VGGFeatures
from nets.losses import gradient_penalty, wasserstein_critic
from nets.mhtma.critic import GlobalLocalCritic, GlobalLocalCriticConfig, choose_corners, crop
from nets.mhtma.objective import MHTMAObjectiveConfig
from nets.objective import Objective
from tests.nets.configs import SMALL_MHTMA, WEIGHTS
from tests.nets.objectives import find_phase, inputs, objective, run

SMALL = GlobalLocalCriticConfig(32, 16, width=4, num_global=3, num_local=2, num_features=8)
Scores = Callable[[Tensor], Tensor]


def build_small(**changes: Any) -> Objective:
    """The objective of the smallest configuration, changed."""
    torch.manual_seed(0)
    return build_objective(replace(SMALL_MHTMA, **changes), WEIGHTS)


@pytest.mark.parametrize(("local_px", "local", "both"), [(128, 19_250_304, 45_056_769), (96, 15_580_288, 41_386_753)])
def test_the_critic_has_the_parameters_of_the_reconstruction(local_px: int, local: int, both: int) -> None:
    with torch.device("meta"):
        critic = GlobalLocalCritic(GlobalLocalCriticConfig(local_px=local_px))
    counts = [sum(p.numel() for p in part.parameters()) for part in (critic.whole, critic.part, critic)]
    assert counts == [25_804_416, local, both]


@given(st.integers(0, 9999), st.integers(1, 40), st.integers(1, 40), st.floats(0, 0.9999), st.floats(0.001, 1))
def test_the_patch_lies_in_the_picture_and_meets_the_hole(
    seed: int, height: int, width: int, fraction: float, share: float
) -> None:
    mask = (torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(seed)) < share).float()
    mask[..., seed % height, seed % width] = 1
    side = 1 + seed % min(height, width)
    corners = choose_corners(mask, torch.full((2, 1), fraction), side)
    assert (corners >= 0).all()
    assert (corners + side <= torch.tensor([height, width])).all()
    assert (crop(mask, corners, side).amax(dim=(1, 2, 3)) == 1).all()


def test_patches_go_to_every_part_of_the_hole() -> None:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 10, 10:50] = mask[..., 50, 20:30] = 1
    drawn = choose_corners(mask.expand(1000, 1, 64, 64), (torch.arange(1000)[:, None] + 0.5) / 1000, 1)
    counts = torch.zeros(64, 64).index_put((drawn[:, 0], drawn[:, 1]), torch.ones(1000), accumulate=True)
    assert torch.equal(counts, mask[0, 0] * 20)  # 50 pixels of hole, each as often as the others


@given(st.integers(0, 99))
def test_a_crop_is_the_square_that_begins_at_its_corner(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    image, corners = torch.rand(3, 2, 9, 11, generator=generator), torch.randint(0, 5, (3, 2), generator=generator)
    for sample, (row, column) in enumerate(corners.tolist()):
        assert torch.equal(crop(image, corners, 4)[sample], image[sample, :, row : row + 4, column : column + 4])


@torch.no_grad()
def test_both_looks_of_the_critic_count() -> None:
    critic, image = GlobalLocalCritic(SMALL).eval(), torch.rand(2, 3, 32, 32)
    corners = torch.full((2, 2), 4)
    before = critic(image, corners)
    assert before.shape == (2, 1)
    assert not torch.equal(critic(image, corners + 8), before)
    outside = image.clone()
    outside[..., 30:, 30:] = 0
    assert not torch.equal(critic(outside, corners), before)


@torch.no_grad()
def test_spectral_norms_come_near_to_one_with_use_and_only_where_they_are_wanted() -> None:
    critic, plain = GlobalLocalCritic(SMALL), GlobalLocalCritic(SMALL, spectral=False)
    for _ in range(30):
        critic(torch.rand(2, 3, 32, 32), torch.zeros(2, 2, dtype=torch.int64))
    layers = [m for m in critic.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert len(layers) == 3 + 1 + 2 + 1 + 1
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=0.05)
    assert all("parametrizations" not in name for name, _ in plain.named_parameters())


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="picture is 64x64 px, size_px of the critic is 32: make them equal"):
        GlobalLocalCritic(SMALL)(torch.rand(1, 3, 64, 64), torch.zeros(1, 2, dtype=torch.int64))


@pytest.mark.parametrize(("real", "fake", "loss"), [([1.0, 3.0], [0.0, 0.0], -2.0), ([0.0], [5.0], 5.0)])
def test_the_wasserstein_critic_wants_real_above_fake(real: list[float], fake: list[float], loss: float) -> None:
    assert wasserstein_critic(torch.tensor(real), torch.tensor(fake)).item() == loss


@pytest.mark.parametrize(
    ("scores", "penalty"),
    [
        (lambda x: x[:, 0, 0, 0], 0.0),
        (lambda x: 3 * x[:, 0, 0, 0], 4.0),
        (lambda x: 3 * x[:, 0, 0, 0] + 4 * x[:, 1, 1, 1], 16.0),
        (lambda x: x.flatten(1).square().sum(dim=1) / 2, (48**0.5 * 0.5 - 1) ** 2),
    ],
)
def test_a_slope_of_one_is_not_punished_and_others_are_by_the_square(scores: Scores, penalty: float) -> None:
    image = torch.full((2, 3, 4, 4), 0.5, requires_grad=True)
    assert gradient_penalty(scores(image)[:, None], image).item() == pytest.approx(penalty, abs=1e-5)


def test_the_penalty_pulls_on_the_critic() -> None:
    steepness, image = torch.tensor(3.0, requires_grad=True), torch.zeros(2, 3, 4, 4, requires_grad=True)
    penalty = gradient_penalty(steepness * image[:, 0, 0, :1], image)
    assert torch.autograd.grad(penalty, steepness)[0].item() == pytest.approx(2 * (3 - 1))


def test_errors_are_those_of_pictures_between_minus_one_and_one() -> None:
    of = build_small(perceptual_weight=0.0, coarse_weight=2.0, final_weight=3.0)
    outputs = run(of)
    outputs |= {"coarse": outputs["image"] + 0.1, "predicted": outputs["image"] - 0.2}
    terms, weights = find_phase(of, "generate").terms(outputs), find_phase(of, "generate").weights
    assert terms["l1_coarse"].item() == pytest.approx(0.2, rel=1e-5)
    assert terms["l1_out"].item() == pytest.approx(0.4, rel=1e-5)
    assert weights == {"l1_coarse": 2.0, "l1_out": 3.0, "adversarial": 0.01}


@pytest.mark.parametrize(
    ("on", "seen"), [("coarse", ["coarse"]), ("final", ["predicted"]), ("both", ["coarse", "predicted"])]
)
def test_the_perceptual_term_is_the_distance_of_three_pools(on: Any, seen: list[str]) -> None:
    of = build_small(perceptual_on=on)
    outputs = run(of)
    vgg = VGGFeatures(16, ("pool1", "pool2", "pool3"), WEIGHTS["vgg16_features"]).double()
    target = vgg(outputs["image"].double())
    expected = sum((vgg(outputs[n].double())[k] - target[k]).abs().mean().item() for n in seen for k in target)
    assert find_phase(of, "generate").terms(outputs)["perceptual"].item() == pytest.approx(expected, rel=1e-5)


def test_without_the_perceptual_term_no_file_of_weights_is_wanted() -> None:
    assert MHTMAObjectiveConfig().needs_weights == ("vgg16_features",)
    config = replace(SMALL_MHTMA, perceptual_weight=0.0)
    assert config.needs_weights == ()
    assert not build_objective(config, {}).teachers


def test_vgg_is_a_teacher_that_nothing_trains() -> None:
    of = objective("mhtma")
    assert set(of.networks) == {"generator", "critic"}
    assert all(not p.requires_grad for p in of.teachers["vgg16"].parameters())


@pytest.mark.parametrize("name", ["mhtma", "mhtma-wgan"])
def test_terms_of_the_critic_do_not_reach_the_generator_and_fit_its_scores(name: str) -> None:
    of = objective(name)
    outputs = run(of)
    critic = of.networks["critic"].eval()
    terms = find_phase(of, "criticise").terms(outputs)
    real, fake = (critic(outputs[n].detach(), outputs["corners"]) for n in ("image", "inpainted"))
    expected = F.relu(1 - real).mean() + F.relu(1 + fake).mean() if name == "mhtma" else fake.mean() - real.mean()
    assert terms["critic"].item() == pytest.approx(expected.item(), rel=1e-4)
    generator = list(of.networks["generator"].parameters())
    gradients = torch.autograd.grad(torch.stack(list(terms.values())).sum(), generator, allow_unused=True)
    assert all(g is None for g in gradients)


def test_the_penalty_is_taken_between_the_picture_and_its_fill() -> None:
    of = objective("mhtma-wgan")
    outputs, critic = run(of), of.networks["critic"]
    blend = outputs["blend"]
    assert (blend >= 0).all()
    assert blend[0] != blend[1], "each sample has a point of its own"
    between = (blend * outputs["image"] + (1 - blend) * outputs["inpainted"]).detach().requires_grad_()
    slopes = torch.autograd.grad(critic(between, outputs["corners"]).sum(), between)[0].flatten(1).norm(dim=1)
    penalty = find_phase(of, "criticise").terms(outputs)["penalty"]
    assert penalty.item() == pytest.approx((slopes - 1).square().mean().item(), rel=1e-4)
    assert find_phase(of, "criticise").weights == {"critic": 1.0, "penalty": 10.0}


def test_strokes_are_taken_from_a_share_of_the_samples() -> None:
    step = inputs()
    seen = []
    for share in (0.0, 1.0):
        of = build_small(network=replace(SMALL_MHTMA.network, sketch=True), sketch_dropout=share)
        seen.append(of.stages[0].forward(step)["coarse"])
        bare = of.networks["generator"](step.image, step.mask)["coarse"]
        assert torch.equal(seen[-1], bare) == (share == 1.0)


def test_a_sketch_guided_training_without_sketches_is_refused() -> None:
    of = objective("mhtma-sketch")
    with pytest.raises(
        ValueError, match="no plane 'sketch' in the batch: name it in the stream's planes, or in sketch_planes"
    ):
        of.stages[0].forward(replace(inputs(), planes={}))
