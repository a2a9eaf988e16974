"""DeepGIN's five losses: the terms of both modes against references of their own, and weights that leave a term out."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nets import build_objective
from nets.deepgin.objective import DeepGINObjectiveConfig
from nets.features import IMAGENET_MEAN, IMAGENET_STD
from nets.objective import Objective, Outputs
from tests.nets.configs import CONFIGS, WEIGHTS
from tests.nets.objectives import objective, find_phase, run
from tests.weights import random_vgg

VGG_INDICES = {"conv1_1": 0, "conv2_1": 5, "conv3_1": 10, "conv4_1": 19, "conv5_1": 28}
LAYER_WEIGHTS = {"paper": (1, 1, 1, 1, 1), "code": (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)}
MODES = pytest.mark.parametrize("mode", ["paper", "code"])
NAMES = {"paper": "deepgin-all-losses", "code": "deepgin-code"}


def reference_maps(mode: str, picture: Tensor) -> list[Tensor]:
    """The five maps of VGG-19 in float64, by indices; in the mode of the code the first four are rectified."""
    state = {key: tensor.double() for key, tensor in random_vgg(19).items()}
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    x, maps = (picture.double() - mean) / std, []
    for index in range(29):
        if f"features.{index}.weight" in state:
            x = F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1)
        elif f"features.{index - 1}.weight" in state:
            x = x.clamp(min=0)
        else:
            x = F.max_pool2d(x, 2)
        if index in VGG_INDICES.values():
            maps.append(x.clamp(min=0) if mode == "code" and index != 28 else x)
    return maps


def reference_gram(features: Tensor) -> Tensor:
    _, c, h, w = features.shape
    return torch.einsum("nchw,ndhw->ncd", features, features) / (c * h * w)


def reference(mode: str, o: Outputs) -> dict[str, float]:
    """Eq. 4 to 6, or what the code has instead, summed over prediction and inpainted picture."""
    target = reference_maps(mode, o["image"])
    terms = {"perceptual": 0.0, "style": 0.0}
    for picture in (o["predicted"], o["inpainted"]):
        for weight, x, y in zip(LAYER_WEIGHTS[mode], reference_maps(mode, picture), target, strict=True):
            gap = reference_gram(x) - reference_gram(y)
            terms["perceptual"] += weight * float((x - y).abs().mean())
            terms["style"] += weight * float(gap.abs().mean() if mode == "paper" else gap.square().mean())
    inpainted = o["inpainted"].double()
    down, across = inpainted[:, :, 1:] - inpainted[:, :, :-1], inpainted[..., 1:] - inpainted[..., :-1]
    if mode == "paper":
        terms["total_variation"] = float(down.abs().mean() + across.abs().mean())
    else:
        counts = [d[0].numel() for d in (down, across)]
        squares = [float(d.square().sum()) for d in (down, across)]
        terms["total_variation"] = 2 * (squares[0] / counts[0] + squares[1] / counts[1]) / len(inpainted)
    return terms


@MODES
@torch.no_grad()
def test_the_terms_are_those_of_the_paper_or_of_the_code(mode: str) -> None:
    of = objective(NAMES[mode])
    outputs = run(of)
    terms = find_phase(of, "generate").terms(outputs)
    for name, value in reference(mode, outputs).items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4), name


@torch.no_grad()
def test_the_code_looks_at_pictures_of_its_own_size() -> None:
    larger = build_objective(replace(CONFIGS["deepgin-code"], vgg_size_px=48), WEIGHTS)
    outputs = run(larger)
    resized: Outputs = {
        name: F.interpolate(t, size=(48, 48), mode="bilinear", align_corners=True)
        for name, t in outputs.items()
        if name in ("image", "predicted", "inpainted")
    }
    terms = find_phase(larger, "generate").terms(outputs)
    for name in ("perceptual", "style"):
        assert terms[name].item() == pytest.approx(reference("code", resized)[name], rel=1e-4)


@MODES
@torch.no_grad()
def test_a_perfect_fill_has_no_feature_loss(mode: str) -> None:
    of = objective(NAMES[mode])
    outputs = run(of)
    perfect = outputs | {"predicted": outputs["image"], "inpainted": outputs["image"]}
    terms = find_phase(of, "generate").terms(perfect)
    assert terms["perceptual"].item() == terms["style"].item() == 0


def test_weights_are_those_of_equation_7() -> None:
    assert DeepGINObjectiveConfig().needs_weights == ("vgg19_features",)
    of = build_objective(replace(CONFIGS["deepgin-all-losses"], adversarial_weight=0.001), WEIGHTS)
    l1 = {"l1_coarse": 1, "l1_low": 1, "l1_out": 1}
    others = {"adversarial": 0.001, "total_variation": 0.1, "perceptual": 0.05, "style": 80.0}
    assert find_phase(of, "reconstruct").weights == l1
    assert find_phase(of, "generate").weights == l1 | others
    assert find_phase(of, "criticise").weights == {"critic": 0.5}
    config = DeepGINObjectiveConfig()
    assert (config.perceptual_weight, config.style_weight, config.total_variation_weight) == (0.05, 80.0, 0.1)
    assert (config.adversarial_weight, config.hole_weight) == (0.001, 5.0)


@pytest.mark.parametrize(
    ("weights", "terms"),
    [
        ({"style_weight": 0.0}, {"perceptual"}),
        ({"perceptual_weight": 0.0}, {"style"}),
        ({"perceptual_weight": 0.0, "style_weight": 0.0}, set()),
    ],
)
def test_a_weight_of_nothing_leaves_its_term_out(weights: dict[str, Any], terms: set[str]) -> None:
    config = replace(CONFIGS["deepgin-all-losses"], **weights)
    of = build_objective(config, WEIGHTS if terms else {})
    assert set(find_phase(of, "generate").terms(run(of))) & {"perceptual", "style"} == terms
    assert set(config.needs_weights) == set(of.teachers) == ({"vgg19_features"} if terms else set())


def test_the_teacher_is_no_part_of_what_is_trained_or_kept() -> None:
    of = objective("deepgin-all-losses")
    assert set(of.networks) == {"generator", "critic"}
    assert not any(p.requires_grad for teacher in of.teachers.values() for p in teacher.parameters())


def gradient(of: Objective, term: str) -> Tensor:
    """Of a term with respect to the generator's first weights."""
    terms = find_phase(of, "generate").terms(run(of))
    (found,) = torch.autograd.grad(terms[term], [next(of.networks["generator"].parameters())])
    return found


@MODES
@pytest.mark.parametrize("term", ["perceptual", "style", "total_variation", "adversarial"])
def test_every_term_teaches_the_generator(mode: str, term: str) -> None:
    assert gradient(objective(NAMES[mode]), term).abs().sum() > 0
