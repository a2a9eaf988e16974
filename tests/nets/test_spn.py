"""The generators of SPN and SPL: the papers' sizes, and what may and what must influence their output."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nets.layers.convolution import lay_channels_last
from nets.layers.smooth import fill_smoothly
from nets.spn.network import SPL, SPN, SemanticPriorGenerator, SPLConfig, SPNConfig
from nets.spn.prior import DistillationHeads
from tests.nets.pictures import make_masked_pictures
from tests.sampling import sample_cases

SMALL = SPNConfig(8, 8, 2, 2, 2, 4, 2)
PROBABILISTIC = replace(SMALL, probabilistic=True)
SMALL_SPL = SPLConfig(8, 8, 2, 2, 2, 4, 2)
VARIANTS: dict[str, SPNConfig | SPLConfig] = {
    "spn": SMALL,
    "probabilistic": PROBABILISTIC,
    "two scales": replace(SMALL, num_scales=2),
    "without pyramid": replace(SMALL, num_scales=1),
    "without SPADE": replace(SMALL, fusion="concatenation"),
    "without SPADE, one scale": replace(SMALL, fusion="concatenation", num_scales=1),
    "residual": replace(SMALL, residual=True),
    "spl": SMALL_SPL,
    "residual spl": replace(SMALL_SPL, residual=True),
}
EACH = pytest.mark.parametrize("variant", VARIANTS)
PAPER = SPNConfig()


def built(config: SPNConfig | SPLConfig) -> SemanticPriorGenerator:
    return SPN(config) if isinstance(config, SPNConfig) else SPL(config)


def small(variant: str) -> SemanticPriorGenerator:
    return built(VARIANTS[variant])


def probabilistic() -> SPN:
    return SPN(PROBABILISTIC)


def size_of(*modules: nn.Module | None) -> int:
    return sum(p.numel() for m in modules if m is not None for p in m.parameters())


def heads_of(config: SPNConfig | SPLConfig) -> DistillationHeads:
    scales = (152, 76, 76) if isinstance(config, SPNConfig) else (152,)
    return DistillationHeads(config.width, scales)


@pytest.mark.parametrize(
    ("config", "count", "with_heads"),
    [
        (PAPER, 50_648_835, 50_702_643),
        (replace(PAPER, num_spade_blocks=4), 38_845_187, 38_898_995),
        (replace(PAPER, num_spade_blocks=12), 62_452_483, 62_506_291),
        (replace(PAPER, probabilistic=True), 68_459_075, 68_512_883),
        (SPLConfig(), 45_558_159, 45_597_223),
    ],
    ids=["SPN", "4 blocks", "12 blocks", "probabilistic", "SPL"],
)
def test_generators_have_the_parameters_of_the_papers(
    config: SPNConfig | SPLConfig, count: int, with_heads: int
) -> None:
    with torch.device("meta"):
        network, heads = built(config), heads_of(config)
    assert size_of(network) == count
    assert size_of(network, heads) == with_heads


SUBTOTALS: dict[str, tuple[Callable[[SPN], list[nn.Module | None]], int]] = {
    "image encoder": (lambda n: [n.encoder], 667_008),
    "region normalisation": (lambda n: [n.encoder.norms], 1_792),
    "SPADE blocks": (lambda n: [n.blocks], 23_607_296),
    "SPADE block": (lambda n: [n.blocks[0]], 2_950_912),
    "stem": (lambda n: [n.prior.stem], 12_608),
    "halving 1": (lambda n: [n.prior.downs[0]], 131_200),
    "halving 2": (lambda n: [n.prior.downs[1]], 524_544),
    "halving 3": (lambda n: [n.prior.downs[2]], 1_048_832),
    "before the dense blocks": (lambda n: [n.prior.dense.first], 590_080),
    "dense blocks": (lambda n: [n.prior.dense.blocks], 11_131_904),
    "fusion": (lambda n: [n.prior.dense.fusion], 1_638_912),
    "residual blocks": (lambda n: [n.prior.blocks], 4_720_640),
    "prior decoder": (lambda n: [n.prior.ups, n.prior.joins], 2_766_144),
    "decoder block 1": (lambda n: [n.ups[0]], 2_656_256),
    "decoder block 2": (lambda n: [n.ups[1]], 1_144_000),
    "output": (lambda n: [n.out], 9_411),
    "image decoder": (lambda n: [n.ups, n.out], 3_809_667),
}


@pytest.mark.parametrize("part", SUBTOTALS)
def test_parts_of_spn_have_the_parameters_of_the_paper(part: str) -> None:
    parts, count = SUBTOTALS[part]
    with torch.device("meta"):
        assert size_of(*parts(SPN(PAPER))) == count


def test_parts_of_the_probabilistic_network_have_the_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        network = SPN(replace(PAPER, probabilistic=True))
    module = network.prior.variational
    assert module is not None
    counts = [size_of(m) for m in (module.encoder, module.mean, module.deviation, module.decoder, network.prior.blocks)]
    assert counts == [10_487_296, 65_664, 65_664, 5_901_312, 6_490_368]
    assert size_of(network.ups, network.out) == 3_330_243


def test_heads_have_the_parameters_of_the_paper() -> None:
    assert [size_of(head) for head in heads_of(PAPER).heads] == [39_064, 9_804, 4_940]


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (32, 96)], ids=str)
@EACH
def test_outputs_are_finite_and_of_their_shapes(variant: str, size: tuple[int, int]) -> None:
    height, width = size
    image, mask = torch.rand(2, 3, height, width), (torch.rand(2, 1, height, width) > 0.5).float()
    outputs = small(variant)(image, mask)
    shapes = {
        "predicted": (3, height, width),
        "inpainted": (3, height, width),
        "prior_3": (32, height // 4, width // 4),
        "prior_2": (16, height // 2, width // 2),
        "prior_1": (8, height, width),
        "mean": (16, height // 32, width // 32),
        "deviation": (16, height // 32, width // 32),
    }
    assert {name: tuple(t.shape) for name, t in outputs.items()} == {n: (2, *shapes[n]) for n in outputs}
    assert all(torch.isfinite(t).all() for t in outputs.values())


@pytest.mark.parametrize(
    ("variant", "names"),
    [
        ("spn", {"prior_3", "prior_2", "prior_1"}),
        ("two scales", {"prior_3", "prior_2"}),
        ("without pyramid", {"prior_3"}),
        ("spl", {"prior_3"}),
        ("probabilistic", {"prior_3", "prior_2", "prior_1", "mean", "deviation"}),
    ],
)
def test_a_network_has_the_priors_of_its_scales(variant: str, names: set[str]) -> None:
    assert set(small(variant)(*make_masked_pictures(32))) == names | {"predicted", "inpainted"}


@EACH
def test_every_parameter_has_a_part_in_the_prediction(variant: str) -> None:
    network, (image, mask) = small(variant), make_masked_pictures(64)
    noise = {}
    if isinstance(network, SPN) and network.probabilistic:
        noise = {"noise": torch.randn(2, *network.get_noise_shape(image))}
    loss = (network(image, mask, **noise)["predicted"] * torch.rand_like(image)).sum()
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    names = [name for name, _ in network.named_parameters()]
    assert [n for n, g in zip(names, gradients, strict=True) if g is None or not g.any()] == []


@torch.no_grad()
@EACH
def test_outside_the_hole_inpainted_is_the_image_and_inside_it_is_predicted(variant: str) -> None:
    image, mask = make_masked_pictures(32)
    outputs, hole = small(variant)(image, mask), mask.expand_as(image) == 1
    assert torch.equal(outputs["inpainted"][~hole], image[~hole])
    assert torch.equal(outputs["inpainted"][hole], outputs["predicted"][hole])


@torch.no_grad()
@EACH
def test_pixels_under_the_mask_are_not_read(variant: str) -> None:
    image, mask = make_masked_pictures(32)
    network, hidden = small(variant), torch.where(mask > 0, torch.rand_like(image), image)
    before, after = network(image, mask), network(hidden, mask)
    assert all(torch.equal(before[name], after[name]) for name in before)


@torch.no_grad()
@EACH
@pytest.mark.parametrize("place", [(0, 0), (31, 31), (7, 8)], ids=str)
def test_known_pixels_and_the_mask_are_read(variant: str, place: tuple[int, int]) -> None:
    image, mask = make_masked_pictures(32)
    image[..., *place] = 1  # as white as the paint of holes, so that only the mask can tell them apart
    other, wider, network = image.clone(), mask.clone(), small(variant)
    other[..., *place] = 0
    wider[..., *place] = 1
    before = network(image, mask)["predicted"]
    assert not torch.equal(network(other, mask)["predicted"], before)
    assert not torch.equal(network(image, wider)["predicted"], before)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["spn", "probabilistic", "spl", "without SPADE"])
def test_predictions_are_within_the_range_of_pictures(variant: str) -> None:
    network = small(variant)
    for parameter in network.out.parameters():
        parameter.mul_(100)
    predicted = network(*make_masked_pictures(32))["predicted"]
    assert predicted.min() >= 0
    assert predicted.max() <= 1
    assert predicted.max() - predicted.min() > 0.9


@torch.no_grad()
@pytest.mark.parametrize("variant", ["residual", "residual spl"])
def test_a_residual_network_adds_in_the_hole_alone(variant: str) -> None:
    image, mask = make_masked_pictures(32)
    outputs = small(variant)(image, mask)
    known = (image * (1 - mask), outputs["predicted"] * (1 - mask))
    assert torch.equal(*known)
    assert not torch.equal(outputs["predicted"], fill_smoothly(known[0], mask))


@torch.no_grad()
@pytest.mark.parametrize("variant", ["residual", "residual spl"])
def test_a_residual_network_that_adds_nothing_gives_the_smooth_fill(variant: str) -> None:
    image, mask = make_masked_pictures(32)
    network = small(variant)
    for parameter in network.out.parameters():
        parameter.zero_()
    assert torch.equal(network(image, mask)["predicted"], fill_smoothly(image * (1 - mask), mask))


@torch.no_grad()
@EACH
def test_samples_of_a_batch_do_not_see_each_other(variant: str) -> None:
    image, mask = make_masked_pictures(32, 3)
    network = small(variant)
    together, alone = network(image, mask), network(image[1:2], mask[1:2])
    assert all(torch.allclose(together[n][1:2], alone[n], atol=1e-4) for n in alone)


@torch.no_grad()
@EACH
def test_the_layout_of_weights_does_not_change_the_picture(variant: str) -> None:
    network, (image, mask) = small(variant), make_masked_pictures(32)
    before = network(image, mask)["predicted"]
    lay_channels_last(network)
    assert torch.allclose(network(image, mask)["predicted"], before, atol=1e-4)


@pytest.mark.parametrize("variant", ["spn", "probabilistic", "spl", "without SPADE"])
def test_checkpointing_changes_neither_picture_nor_gradient(variant: str) -> None:
    network, (image, mask) = small(variant), make_masked_pictures(32)
    frugal = built(replace(VARIANTS[variant], checkpointing=True))
    frugal.load_state_dict(network.state_dict())
    pictures = [n(image, mask)["predicted"] for n in (network, frugal)]
    assert torch.equal(*pictures)
    kept, again = (
        torch.autograd.grad(p.sum(), list(n.parameters()), allow_unused=True)
        for p, n in zip(pictures, (network, frugal), strict=True)
    )
    assert all(a is b is None or torch.allclose(a, b, atol=1e-6) for a, b in zip(kept, again, strict=True))


@pytest.mark.parametrize("num_scales", [0, 4])
def test_a_number_of_scales_that_there_is_not_is_refused(num_scales: int) -> None:
    with pytest.raises(ValueError, match=f"num_scales is {num_scales}: there are scales 1 to 3"):
        SPN(replace(SMALL, num_scales=num_scales))


@torch.no_grad()
@pytest.mark.parametrize("variant", ["spn", "without SPADE", "probabilistic"])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_every_prior_has_a_say_in_the_picture(variant: str, scale: int) -> None:
    network, (image, mask) = small(variant), make_masked_pictures(32)
    before = network(image, mask)["predicted"]
    prior = network.prior.blocks if scale == 3 else network.prior.joins[2 - scale]
    prior.register_forward_hook(lambda _, __, out: out.flip(2))
    assert not torch.allclose(network(image, mask)["predicted"], before, atol=1e-4)


@torch.no_grad()
def test_the_prior_learner_sees_the_white_hole_and_the_mask_at_twice_their_size() -> None:
    network, (image, mask) = SPN(SMALL), make_masked_pictures(32)
    seen: list[tuple[Tensor, ...]] = []
    network.prior.register_forward_pre_hook(lambda _, args: seen.append(args))
    network(image, mask)
    masked, doubled = seen[0][:2]
    assert torch.equal(doubled, mask.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.equal(masked[..., ::2, 1::2], image * (1 - mask) + mask)
    assert masked.shape == (2, 3, 64, 64)


FULL: dict[str, SPNConfig | SPLConfig] = {
    "spn": PAPER,
    "4 blocks": replace(PAPER, num_spade_blocks=4),
    "12 blocks": replace(PAPER, num_spade_blocks=12),
    "two scales": replace(PAPER, num_scales=2),
    "without pyramid": replace(PAPER, num_scales=1),
    "without SPADE": replace(PAPER, fusion="concatenation"),
    "residual": replace(PAPER, residual=True),
    "probabilistic": replace(PAPER, probabilistic=True),
    "spl": SPLConfig(),
}


@pytest.mark.parametrize("variant", sample_cases(FULL, ("spn", "probabilistic", "spl")))
def test_full_networks_fill_pictures_of_the_papers_size_and_have_gradients(variant: str) -> None:
    image, mask = make_masked_pictures(256, 1)
    network = built(FULL[variant])
    outputs = network(image, mask)
    gradients = torch.autograd.grad(outputs["predicted"].sum(), list(network.parameters()), allow_unused=True)
    assert torch.isfinite(outputs["inpainted"]).all()
    assert all(g is None or torch.isfinite(g).all() for g in gradients)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["spn", "probabilistic", "spl", "without SPADE", "residual"])
def test_generators_compile_without_a_break(variant: str) -> None:
    network, (image, mask) = small(variant).eval(), make_masked_pictures(64)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert torch.allclose(compiled(image, mask)["predicted"], network(image, mask)["predicted"], atol=1e-5)
