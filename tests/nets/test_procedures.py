"""The local procedure: which windows are filled, what they are shown, and photos that are hard to window."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nets.deepgin.network import DeepGIN, DeepGINConfig
from nets.filling import Procedure, fill_levels
from nets.layers.smooth import fill_smoothly
from nets.procedures.detail import find_sources, match_blocks
from nets.procedures.restore import spread
from nets.procedures.scale import reduce_known
from nets.procedures.windows import group_holes

SIZE_PX = 16


class Smooth(nn.Module):
    """Fills holes smoothly and remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []

    def forward(self, image: Tensor, mask: Tensor, **guides: Tensor) -> dict[str, Tensor]:
        """N3SS -> N3SS."""
        self.shown.append((image, mask, guides))
        painted = fill_smoothly(image * (1 - mask), mask)
        return {"predicted": painted, "inpainted": painted}


def fill(photo: Tensor, hole: Tensor, network: nn.Module | None = None) -> Tensor:
    """The photo uint8 HW3 filled."""
    return fill_levels(network or Smooth(), photo[None], hole[None], SIZE_PX)[0]


def make_ramp(height: int, width: int) -> Tensor:
    """A photo that grows lighter to the right and redder downwards, uint8 HW3."""
    across, down = (torch.linspace(40, 200, n) for n in (width, height))
    red, green = down[:, None].expand(height, width), across.expand(height, width)
    return torch.stack([red, green, green], dim=2).round().to(torch.uint8)


def make_specks(seed: int, height: int, width: int, share: float) -> np.ndarray:
    """A mask HW with about this share of hole pixels."""
    return (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)


masks = st.builds(
    make_specks,
    st.integers(0, 10**6),
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from([0.0, 0.001, 0.01, 0.3, 1.0]),
)


@settings(max_examples=60)
@given(mask=masks)
@example(mask=make_specks(153, 16, 52, 0.01))  # another group's hole lies in the box of cells
def test_every_hole_pixel_is_in_one_group_and_its_window_goes_beyond_it(mask: np.ndarray) -> None:
    hole = torch.from_numpy(mask)
    groups = group_holes(hole, SIZE_PX, 2.0)
    count = torch.zeros_like(hole)
    for group in groups:
        count[group.window.place] += group.holes.to(torch.uint8)
        rows, columns = group.holes.any(1).nonzero(), group.holes.any(0).nonzero()
        box = int(max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1)
        for length, whole in zip(group.holes.shape, hole.shape, strict=True):
            assert length == min(whole, max(SIZE_PX, 2 * box))
    assert torch.equal(count, hole)
    assert len(groups) <= 64


def test_near_holes_are_one_group_and_far_ones_are_not() -> None:
    hole = torch.zeros(300, 400, dtype=torch.uint8)
    hole[10:20, 10:20] = hole[10:20, 22:30] = hole[200:240, 300:350] = 1
    windows = [group.window for group in group_holes(hole, 64, 2.0)]
    assert [(w.height, w.width) for w in windows] == [(64, 64), (100, 100)]


def draw_stroke(thick_px: int) -> Tensor:
    """A hole across a photo of 600x800."""
    hole = np.zeros((600, 800), np.uint8)
    cv2.line(hole, (20, 30), (770, 560), 1, thick_px)
    return torch.from_numpy(hole)


def test_windows_of_a_long_stroke_are_as_long_as_it_is_thick_and_not_as_the_photo() -> None:
    sides = [max(group.holes.shape) for group in group_holes(draw_stroke(30), SIZE_PX, 2.0)]
    assert 8 <= len(sides) <= 16
    assert max(sides) < 300


def test_windows_of_a_stroke_go_on_with_what_was_filled_before() -> None:
    class Other(Smooth):
        """Adds other clouds to every window."""

        def forward(self, image: Tensor, mask: Tensor, **guides: Tensor) -> dict[str, Tensor]:
            painted = super().forward(image, mask)["predicted"]
            clouds = torch.rand(len(painted), 3, 4, 4) - 0.5
            made = painted + nn.functional.interpolate(clouds, size=painted.shape[2:], mode="bilinear")
            return {"predicted": made, "inpainted": made}

    torch.manual_seed(0)
    hole, photo = draw_stroke(100), torch.full((600, 800, 3), 128, dtype=torch.uint8)
    filled = fill(photo, hole, Other())[..., 0].int()
    labels = torch.zeros(600, 800, dtype=torch.int64)
    for number, group in enumerate(group_holes(hole, SIZE_PX, 2.0), 1):
        labels[group.window.place][group.holes] = number
    across = (labels[1:] != labels[:-1]) & (labels[1:] > 0) & (labels[:-1] > 0)
    assert across.any()
    assert (filled[1:] - filled[:-1]).abs()[across].max() <= 25


def test_specks_of_dust_are_some_windows_and_not_as_many_as_specks() -> None:
    rng = np.random.default_rng(0)
    photo, hole = make_ramp(900, 1200), torch.zeros(900, 1200, dtype=torch.uint8)
    rows, columns = (torch.from_numpy(rng.integers(0, n, 20_000)) for n in (900, 1200))
    hole[rows, columns] = 1
    network = Smooth()
    filled = fill(photo, hole, network)
    assert sum(len(image) for image, *_ in network.shown) <= 64
    assert (filled.int() - photo.int()).abs().max() <= 3


def test_a_photo_without_a_hole_stays_as_it_is_and_runs_no_network() -> None:
    network, photo = Smooth(), make_ramp(40, 50)
    assert torch.equal(fill(photo, torch.zeros(40, 50, dtype=torch.uint8), network), photo)
    assert not network.shown


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 200), (2, 2)], ids=str)
def test_the_smallest_photos_are_filled(size: tuple[int, int]) -> None:
    photo, hole = make_ramp(*size), torch.zeros(size, dtype=torch.uint8)
    hole[-1, -1] = 1
    filled = fill(photo, hole)
    assert filled.shape == photo.shape
    if hole.numel() > 1:
        assert torch.equal(filled[hole == 0], photo[hole == 0])


def test_a_photo_that_is_all_hole_is_what_the_network_makes_of_nothing() -> None:
    network = Smooth()
    filled = fill(make_ramp(40, 50), torch.ones(40, 50, dtype=torch.uint8), network)
    assert not (network.shown[0][0] * (1 - network.shown[0][1])).any()
    assert not filled.any()


def test_a_hole_that_touches_all_borders_is_filled_from_within() -> None:
    photo, hole = make_ramp(70, 90), torch.ones(70, 90, dtype=torch.uint8)
    hole[5:-5, 5:-5] = 0
    filled = fill(photo, hole)
    assert torch.equal(filled[hole == 0], photo[hole == 0])
    assert (filled.int() - photo.int()).abs().max() < 25


@pytest.mark.parametrize("size", [(64, 64), (100, 131), (300, 90)], ids=str)
def test_a_smooth_photo_is_filled_without_a_step_at_the_border(size: tuple[int, int]) -> None:
    photo, hole = make_ramp(*size), torch.zeros(size, dtype=torch.uint8)
    hole[20:50, 20:60] = 1
    filled = fill(photo, hole)
    step = (filled[20, 20:60].int() - photo[19, 20:60].int()).abs()
    assert step.max() <= 8


def test_a_network_of_another_brightness_leaves_no_step_at_the_border() -> None:
    class Darker(Smooth):
        def forward(self, image: Tensor, mask: Tensor, **guides: Tensor) -> dict[str, Tensor]:
            made = super().forward(image, mask)["predicted"] - 0.2
            return {"predicted": made, "inpainted": made}

    photo, hole = torch.full((120, 120, 3), 180, dtype=torch.uint8), torch.zeros(120, 120, dtype=torch.uint8)
    hole[40:60, 40:60] = 1
    assert (fill(photo, hole, Darker()).int() - 180).abs().max() <= 3


def test_what_lies_beside_a_photo_comes_with_its_window() -> None:
    photo, hole, network = make_ramp(200, 200), torch.zeros(200, 200, dtype=torch.uint8), Smooth()
    hole[150:158, 150:158] = 1
    sketch, segmentation = torch.zeros(1, 1, 200, 200), torch.zeros(1, 3, 200, 200)
    sketch[..., 154, :] = segmentation[..., 154:, :] = 1
    fill_levels(network, photo[None], hole[None], SIZE_PX, guides={"sketch": sketch, "segmentation": segmentation})
    (_, mask, guides), *others = network.shown
    assert not others
    row = int(mask[0, 0].any(1).nonzero()[4])
    assert torch.equal(guides["sketch"][0, 0].any(1).nonzero().flatten(), torch.tensor([row]))
    assert torch.equal(guides["segmentation"][0, 0].any(1).nonzero().flatten(), torch.arange(row, SIZE_PX))


def test_windows_are_filled_as_one_batch() -> None:
    photo, hole, network = make_ramp(200, 200), torch.zeros(200, 200, dtype=torch.uint8), Smooth()
    hole[10:14, 10:14] = hole[100:104, 10:14] = hole[150:154, 150:154] = 1
    fill_levels(network, photo[None], hole[None], SIZE_PX)
    assert [len(image) for image, *_ in network.shown] == [3]


def test_the_network_is_shown_its_size_times_the_scale() -> None:
    photo, hole, network = make_ramp(200, 200), torch.zeros(200, 200, dtype=torch.uint8), Smooth()
    hole[90:120, 90:120] = 1
    fill_levels(network, photo[None], hole[None], SIZE_PX, Procedure(scale=3))
    assert network.shown[0][0].shape[2:] == (3 * SIZE_PX, 3 * SIZE_PX)


@pytest.mark.parametrize("changes", [{"context": 0.5}, {"scale": 0}, {"name": "tiles"}])
def test_a_procedure_that_cannot_be_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="use "):
        Procedure(**changes)  # type: ignore[arg-type]


@given(height=st.integers(2, 60), width=st.integers(2, 60), small=st.integers(1, 20))
def test_a_reduced_known_pixel_is_a_mean_of_known_ones(height: int, width: int, small: int) -> None:
    torch.manual_seed(height * 100 + width)
    hole = (torch.rand(height, width) < 0.3).to(torch.uint8)
    photo = torch.where(hole[..., None] > 0, 255, torch.randint(50, 101, (height, width, 3))).to(torch.uint8)
    reduced, mask = reduce_known(photo, hole, (small, small))
    known = reduced[:, mask[0] == 0]
    assert not known.numel() or (known.min() >= 49.9 / 255 and known.max() <= 100.1 / 255)


def test_what_is_spread_stays_where_known_and_ends_far_from_it() -> None:
    known, weight = torch.zeros(1, 1, 300, 300), torch.zeros(1, 1, 300, 300)
    weight[..., :20], known[..., :20] = 1, 3
    out = spread(known, weight)
    assert torch.equal(out[..., :20], known[..., :20])
    assert out[..., 21].min() > 2
    assert not out[..., 150:].any()


def test_sources_of_detail_are_known_and_their_weights_keep_the_variance() -> None:
    torch.manual_seed(0)
    picture, mask = torch.rand(3, 64, 64), torch.zeros(1, 64, 64)
    mask[:, 20:40, 25:45] = 1
    matches = match_blocks(picture, mask, 1)
    assert matches is not None
    found = find_sources(matches, mask[0].nonzero()[:, 0], mask[0].nonzero()[:, 1], mask)
    assert all((mask[0, rows, columns][weight > 0] == 0).all() for weight, rows, columns in found)
    detail = torch.randn(64, 64)
    copied = sum(weight * detail[rows, columns] for weight, rows, columns in found)
    assert isinstance(copied, Tensor)
    assert copied.std().item() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("residual", [False, True])
def test_a_photo_of_the_networks_size_is_what_the_network_gives_to_the_bit(residual: bool) -> None:
    torch.manual_seed(0)
    network, photo = DeepGIN(DeepGINConfig(4, 1, 1, residual=residual)), torch.randint(0, 256, (2, 16, 16, 3))
    hole = torch.zeros(2, 16, 16, dtype=torch.uint8)
    hole[:, 3:9, 4:12] = 1
    photo = photo.to(torch.uint8)
    with torch.inference_mode():
        made = network(photo.permute(0, 3, 1, 2).float() / 255, hole[:, None].float())["inpainted"]
    for name in ("local", "polyphase", "whole"):
        filled = fill_levels(network, photo, hole, SIZE_PX, Procedure(name))
        assert torch.equal(filled, made.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1))
