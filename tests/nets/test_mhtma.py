"""The generator of MHTMA: the sizes of the reconstruction, what its variants do, and what may influence its output."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nets.layers.gated import GatedConvolution
from nets.layers.smooth import fill_smoothly
from nets.mhtma.network import MHTMA, MHTMAConfig
from tests.nets.pictures import make_masked_pictures
from tests.sampling import sample_cases

SMALL = MHTMAConfig(8, dilations=(2,))
VARIANTS: dict[str, dict[str, Any]] = {
    "mhtma": {},
    "atma": {"attention": "atma"},
    "contextual": {"attention": "contextual"},
    "residual": {"residual": True},
    "attention-residual": {"attention_residual": True},
    "four-heads": {"num_heads": 4},
    "pixels": {"patch_px": 1},
    "sketch": {"sketch": True},
}
ALL = pytest.mark.parametrize("variant", list(VARIANTS))


def network(variant: str = "mhtma", **changes: Any) -> MHTMA:
    """A small generator."""
    return MHTMA(replace(SMALL, **VARIANTS[variant], **changes))


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("width", "coarse", "convolution", "attention", "embeddings", "temperatures", "decoder", "whole"),
    [
        (24, 1_629_951, 991_200, 783_552, 9_312, 155_906, 482_895, 4_052_816),
        (32, 2_894_419, 1_759_360, 1_390_336, 16_512, 276_994, 858_131, 7_195_752),
        (48, 6_505_083, 3_952_320, 3_122_304, 37_056, 622_850, 1_930_011, 16_169_624),
    ],
)
def test_every_part_has_the_parameters_of_the_reconstruction(
    width: int,
    coarse: int,
    convolution: int,
    attention: int,
    embeddings: int,
    temperatures: int,
    decoder: int,
    whole: int,
) -> None:
    with torch.device("meta"):
        built = MHTMA(MHTMAConfig(width))
    refinement = built.refinement
    heads = refinement.attention.heads
    assert isinstance(heads, nn.ModuleList)
    assert num_parameters(built.coarse) == coarse
    assert num_parameters(refinement.convolution_encoder) == convolution
    assert num_parameters(refinement.attention_encoder) + num_parameters(refinement.after_attention) == attention
    assert sum(num_parameters(head.get_submodule("embedding")) for head in heads) == embeddings
    assert sum(num_parameters(head.get_submodule("temperature")) for head in heads) == temperatures
    assert num_parameters(refinement.decoder) == decoder
    assert num_parameters(built) == whole


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"attention": "atma"}, 4_052_816),
        ({"attention": "contextual"}, 4_052_816 - 9_312 - 155_906),
        ({"sketch": True}, 4_052_816 + 3 * 25 * 2 * 24),
        ({"residual": True, "checkpointing": True, "active_heads": "convolution"}, 4_052_816),
    ],
    ids=str,
)
def test_variants_differ_in_what_they_add_or_leave_out(changes: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        assert num_parameters(MHTMA(MHTMAConfig(24, **changes))) == count


@ALL
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (32, 48)], ids=str)
def test_forward_gives_finite_pictures_and_positive_temperatures(variant: str, size: tuple[int, int]) -> None:
    outputs = network(variant)(torch.rand(2, 3, *size), (torch.rand(2, 1, *size) > 0.9).float())
    temperatures = outputs.pop("temperatures")
    assert {name: tuple(t.shape) for name, t in outputs.items()} == {
        "coarse": (2, 3, *size),
        "predicted": (2, 3, *size),
        "inpainted": (2, 3, *size),
    }
    assert all(torch.isfinite(t).all() for t in (temperatures, *outputs.values()))
    assert variant == "atma" or (temperatures > 0).all()


@pytest.mark.parametrize("variant", sample_cases(VARIANTS, tuple(VARIANTS)[:1]))
def test_the_full_size_goes_forward_and_backward(variant: str) -> None:
    full, (image, mask) = MHTMA(MHTMAConfig(**VARIANTS[variant])), make_masked_pictures(256, 1)
    outputs = full(image, mask, mask) if full.config.sketch else full(image, mask)
    gradients = torch.autograd.grad(outputs["predicted"].mean() + outputs["coarse"].mean(), list(full.parameters()))
    assert all(torch.isfinite(g).all() for g in gradients)


@torch.no_grad()
@ALL
def test_outside_the_hole_inpainted_is_the_image_and_inside_what_is_predicted(variant: str) -> None:
    image, mask = make_masked_pictures()
    outputs, hole = network(variant)(image, mask), mask.expand_as(image) == 1
    assert torch.equal(outputs["inpainted"][~hole], image[~hole])
    assert torch.equal(outputs["inpainted"][hole], outputs["predicted"][hole])
    assert not torch.equal(outputs["inpainted"][hole], image[hole])


@torch.no_grad()
@ALL
def test_pixels_under_the_mask_are_not_read(variant: str) -> None:
    image, mask = make_masked_pictures()
    built, hidden = network(variant), torch.where(mask > 0, torch.rand_like(image), image)
    before, after = built(image, mask), built(hidden, mask)
    assert all(torch.equal(before[name], after[name]) for name in before)


@torch.no_grad()
@pytest.mark.parametrize("place", [(0, 0), (31, 31), (3, 4)], ids=str)
def test_known_pixels_and_the_mask_are_read(place: tuple[int, int]) -> None:
    image, mask = make_masked_pictures()
    image[..., *place] = torch.tensor(
        [0.485, 0.456, 0.406]
    )  # the colour of holes, so that only the mask tells them apart
    other, wider, built = image.clone(), mask.clone(), network()
    other[..., *place] = 0
    wider[..., *place] = 1
    before = built(image, mask)["coarse"]
    assert not torch.equal(built(other, mask)["coarse"], before)
    assert not torch.equal(built(image, wider)["coarse"], before)


@torch.no_grad()
def test_pictures_stay_in_range_however_large_the_weights() -> None:
    made = MHTMA(replace(SMALL, initial_scale=9.0))(*make_masked_pictures())
    assert all(float(made[name].min()) >= 0 and float(made[name].max()) <= 1 for name in ("coarse", "predicted"))


@torch.no_grad()
def test_a_residual_network_that_adds_nothing_gives_the_smooth_fill() -> None:
    image, mask = make_masked_pictures()
    smooth = fill_smoothly(image * (1 - mask), mask)
    outputs = MHTMA(replace(SMALL, residual=True, initial_scale=0.0))(image, mask)
    assert all(torch.allclose(outputs[name], smooth, atol=1e-6) for name in ("coarse", "predicted", "inpainted"))


@torch.no_grad()
def test_fresh_weights_neither_drown_nor_inflate_what_passes() -> None:
    sizes: list[float] = []
    built = MHTMA(MHTMAConfig(16))
    for layer in (m for m in built.modules() if isinstance(m, GatedConvolution)):
        layer.register_forward_hook(lambda _, __, made: sizes.append(float(made.std())))
    built(*make_masked_pictures(64))
    assert len(sizes) == 16 + 10 + 8 + 5
    assert min(sizes) > 0.05
    assert max(sizes) < 2


@torch.no_grad()
def test_a_network_that_says_nothing_gives_mid_grey() -> None:
    outputs = MHTMA(replace(SMALL, initial_scale=0.0))(*make_masked_pictures())
    assert torch.equal(outputs["predicted"], torch.full_like(outputs["predicted"], 0.5))


@torch.no_grad()
def test_strokes_in_the_hole_are_read_and_those_outside_are_not() -> None:
    (image, mask), built = make_masked_pictures(), network("sketch")
    inside, outside = torch.zeros_like(mask), torch.zeros_like(mask)
    inside[..., 9:13, 10] = 1
    outside[..., 20:30, 6] = 1
    without = built(image, mask)
    assert torch.equal(built(image, mask, torch.zeros_like(mask))["inpainted"], without["inpainted"])
    assert torch.equal(built(image, mask, outside)["inpainted"], without["inpainted"])
    assert not torch.equal(built(image, mask, inside)["coarse"], without["coarse"])
    assert not torch.equal(built(image, mask, inside)["inpainted"], without["inpainted"])


def test_a_sketch_for_a_network_without_its_channel_is_refused() -> None:
    image, mask = make_masked_pictures()
    with pytest.raises(ValueError, match="a network without its channel: take a config with sketch=True"):
        network()(image, mask, mask)


@torch.no_grad()
def test_each_part_of_the_refinement_can_be_heard_alone() -> None:
    image, mask = make_masked_pictures()
    full, parts = network(), {}
    for active_heads in ("all", "convolution", "attention", "highest-temperature", "lowest-temperature"):
        part = network(active_heads=active_heads)
        part.load_state_dict(full.state_dict())
        parts[active_heads] = part(image, mask)
    assert all(torch.equal(part["coarse"], parts["all"]["coarse"]) for part in parts.values())
    pictures = [part["predicted"] for part in parts.values()]
    assert all(not torch.equal(a, b) for i, a in enumerate(pictures) for b in pictures[:i])


@torch.no_grad()
@pytest.mark.parametrize(
    ("active_heads", "deaf_to"), [("convolution", "attention_encoder"), ("attention", "convolution_encoder")]
)
def test_a_branch_that_is_not_heard_has_no_influence(active_heads: Any, deaf_to: str) -> None:
    built, (image, mask) = network(active_heads=active_heads), make_masked_pictures()
    before = built(image, mask)["predicted"]
    for parameter in built.refinement.get_submodule(deaf_to).parameters():
        parameter.mul_(2)
    assert torch.equal(built(image, mask)["predicted"], before)


@ALL
def test_running_anew_what_was_not_kept_gives_the_same_gradients(variant: str) -> None:
    kept, anew = network(variant), network(variant, checkpointing=True)
    anew.load_state_dict(kept.state_dict())
    image, mask = make_masked_pictures()
    by = [torch.autograd.grad(n(image, mask)["predicted"].square().mean(), list(n.parameters())) for n in (kept, anew)]
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*by, strict=True))


@torch.no_grad()
@ALL
def test_samples_of_a_batch_do_not_see_each_other(variant: str) -> None:
    image, mask = make_masked_pictures(32, 3)
    built = network(variant)
    together, alone = built(image, mask), built(image[1:2], mask[1:2])
    assert all(torch.allclose(together[n][1:2], alone[n], atol=1e-5) for n in alone)


@torch.no_grad()
@pytest.mark.parametrize(
    "variant", ["mhtma", *(pytest.param(v, marks=pytest.mark.slow) for v in ("contextual", "atma"))]
)
def test_the_compiler_needs_no_break_in_the_graph(variant: str) -> None:
    built, (image, mask) = network(variant), make_masked_pictures()
    compiled: Callable[..., dict[str, Tensor]] = torch.compile(built, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(image, mask)["predicted"], built(image, mask)["predicted"], atol=1e-6)


@pytest.mark.slow
def test_the_compiler_follows_backward_too() -> None:
    built, (image, mask) = network(), make_masked_pictures()
    compiled: Callable[..., dict[str, Tensor]] = torch.compile(built, backend="aot_eager", fullgraph=True)
    by = [torch.autograd.grad(n(image, mask)["predicted"].mean(), list(built.parameters())) for n in (compiled, built)]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*by, strict=True))


@torch.no_grad()
@ALL
def test_half_precision_draws_nearly_the_same_picture(variant: str) -> None:
    built, (image, mask) = network(variant), make_masked_pictures()
    exact = built(image, mask)
    with torch.autocast("cpu", torch.bfloat16):
        rough = built(image, mask)
    assert rough["temperatures"].dtype == torch.float32
    assert (rough["predicted"].float() - exact["predicted"]).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 9}, "width is 9, num_heads 2: take an even width that the heads divide"),
        ({"num_heads": 3}, "width is 8, num_heads 3"),
        ({"patch_px": 4}, "patch_px is 4: take an odd number"),
        (
            {"attention": "contextual", "active_heads": "lowest-temperature"},
            "contextual attention has one temperature only",
        ),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(SMALL, **changes)
