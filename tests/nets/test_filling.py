"""A fill of any size from a network of fixed size by each procedure: phases and back, and known pixels that stay."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nets.deepgin.network import DeepGIN, DeepGINConfig
from nets.filling import PROCEDURES, Procedure, ProcedureName, fill_levels
from nets.procedures.network import ChallengeSteps, NonFiniteFillError
from nets.procedures.polyphase import from_phases, to_phases

SIZE_PX = 16
POLYPHASE = Procedure("polyphase")


class Painter(nn.Module):
    """A careless network of fixed size: paints one level all over and remembers what it was shown."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level
        self.shown: list[tuple[Tensor, Tensor]] = []

    def forward(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """N3SS -> N3SS."""
        assert image.shape[2:] == mask.shape[2:] == (SIZE_PX, SIZE_PX)
        self.shown.append((image, mask))
        painted = torch.full_like(image, self.level)
        return {"predicted": painted, "inpainted": painted}


def make_photo(height: int, width: int, number: int = 1) -> tuple[Tensor, Tensor]:
    """Random pictures uint8 NHWC and masks NHW with a box and some single pixels of hole."""
    torch.manual_seed(height * 1000 + width)
    mask = (torch.rand(number, height, width) < 0.05).to(torch.uint8)
    mask[:, height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = 1
    mask[:, -1, -1] = 0
    return torch.randint(0, 256, (number, height, width, 3), dtype=torch.uint8), mask


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), side=st.integers(1, 6), channels=st.integers(1, 3))
def test_phases_put_together_are_the_picture(rows: int, columns: int, side: int, channels: int) -> None:
    picture = torch.arange(channels * rows * columns * side * side).view(channels, side * rows, side * columns)
    phases = to_phases(picture, side)
    assert phases.shape == (rows * columns, channels, side, side)
    assert torch.equal(from_phases(phases, (side * rows, side * columns)), picture)


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), side=st.integers(1, 6))
def test_a_phase_has_every_so_many_pixels(rows: int, columns: int, side: int) -> None:
    picture = torch.arange(rows * columns * side * side).view(1, side * rows, side * columns)
    phases = to_phases(picture, side)
    for i in range(rows):
        for j in range(columns):
            assert torch.equal(phases[i * columns + j], picture[:, i::rows, j::columns])


def test_the_four_phases_of_a_small_picture() -> None:
    picture = torch.tensor([[[1, 2, 1, 2], [3, 4, 3, 4], [1, 2, 1, 2], [3, 4, 3, 4]]])
    assert to_phases(picture, 2).flatten(1).tolist() == [[1] * 4, [2] * 4, [3] * 4, [4] * 4]


@settings(max_examples=40)
@given(height=st.integers(2, 60), width=st.integers(2, 60))
@example(height=SIZE_PX, width=SIZE_PX)
@example(height=2 * SIZE_PX, width=3 * SIZE_PX)
def test_known_pixels_of_any_photo_stay_what_they_are(height: int, width: int) -> None:
    images, masks = make_photo(height, width)
    for name in ("local", "polyphase"):
        filled = fill_levels(Painter(0.5), images, masks, SIZE_PX, Procedure(name))
        assert (filled.shape, filled.dtype) == (images.shape, torch.uint8)
        assert torch.equal(filled[masks == 0], images[masks == 0])


@pytest.mark.parametrize("name", ["local", "polyphase"])
@pytest.mark.parametrize("size", [(16, 16), (32, 48), (20, 20), (5, 7), (2, 2), (50, 30), (100, 16)], ids=str)
def test_the_hole_is_what_the_network_paints(size: tuple[int, int], name: ProcedureName) -> None:
    images, masks = make_photo(*size)
    filled = fill_levels(Painter(1.0), torch.full_like(images, 255), masks, SIZE_PX, Procedure(name))
    assert torch.equal(filled, torch.full_like(images, 255))


@pytest.mark.parametrize(("size", "phases"), [((16, 16), 1), ((32, 48), 6), ((23, 25), 2), ((5, 90), 6), ((3, 3), 1)])
def test_a_photo_becomes_as_many_pictures_as_its_nearest_multiple_has(size: tuple[int, int], phases: int) -> None:
    painter = Painter(0.5)
    fill_levels(painter, *make_photo(*size), SIZE_PX, POLYPHASE)
    assert sum(len(image) for image, _ in painter.shown) == phases


def test_photos_of_the_networks_size_go_through_it_as_one_batch() -> None:
    painter = Painter(0.5)
    images, masks = make_photo(SIZE_PX, SIZE_PX, 5)
    filled = fill_levels(painter, images, masks, SIZE_PX)
    assert [len(image) for image, _ in painter.shown] == [5]
    assert torch.equal(filled[masks == 1], torch.full_like(filled[masks == 1], 128))


def test_a_large_photo_goes_through_the_network_in_bounded_batches() -> None:
    painter = Painter(0.5)
    images, masks = make_photo(SIZE_PX * 7, SIZE_PX * 7)
    filled = fill_levels(painter, images, masks, SIZE_PX, POLYPHASE)
    assert max(len(image) for image, _ in painter.shown) <= 32
    assert torch.equal(filled[masks == 1], torch.full_like(filled[masks == 1], 128))


@pytest.mark.parametrize(("level", "painted"), [(-3.0, 0), (0.0, 0), (0.5, 128), (1.0, 255), (7.0, 255)])
def test_levels_are_rounded_and_kept_in_range(level: float, painted: int) -> None:
    images, masks = make_photo(SIZE_PX, SIZE_PX)
    filled = fill_levels(Painter(level), images, masks, SIZE_PX)
    assert set(filled[masks == 1].flatten().tolist()) == {painted}


@pytest.mark.parametrize("name", PROCEDURES)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (32, 48), (20, 20), (300, 45), (41, 25), (7, 5)], ids=str)
def test_hidden_pixels_do_not_influence_the_fill(size: tuple[int, int], residual: bool, name: ProcedureName) -> None:
    torch.manual_seed(0)
    network, (images, masks) = DeepGIN(DeepGINConfig(4, 1, 1, residual=residual)), make_photo(*size)
    dark, bright = (torch.where(masks[..., None] > 0, level, images).to(torch.uint8) for level in (0, 255))
    filled = [fill_levels(network, x, masks, SIZE_PX, Procedure(name)) for x in (dark, bright)]
    assert torch.equal(*filled)


@pytest.mark.parametrize("name", ["local", "polyphase"])
@pytest.mark.parametrize("size", [(20, 20), (300, 45), (41, 25), (7, 5)], ids=str)
def test_what_is_shown_as_known_was_known(size: tuple[int, int], name: ProcedureName) -> None:
    images, masks = make_photo(*size)
    shown = []
    for level in (0, 255):
        painter = Painter(0.5)
        hidden = torch.where(masks[..., None] > 0, level, images).to(torch.uint8)
        fill_levels(painter, hidden, masks, SIZE_PX, Procedure(name))
        shown.append(torch.cat([image * (1 - mask) for image, mask in painter.shown]))
    assert torch.equal(*shown)


@pytest.mark.parametrize("name", ["local", "polyphase"])
def test_photos_of_a_batch_are_filled_as_each_alone(name: ProcedureName) -> None:
    images, masks = make_photo(20, 30, 3)
    together = fill_levels(Painter(0.3), images, masks, SIZE_PX, Procedure(name))
    alone = [fill_levels(Painter(0.3), images[i : i + 1], masks[i : i + 1], SIZE_PX, Procedure(name)) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_filling_does_not_change_its_input_and_needs_no_gradient() -> None:
    images, masks = make_photo(20, 30)
    before = images.clone(), masks.clone()
    fill_levels(DeepGIN(DeepGINConfig(4, 1, 1)), images, masks, SIZE_PX)
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])


class Spoiler(nn.Module):
    """Paints what is left of the middle with one level, and one pixel of the third picture with another value."""

    def __init__(self, value: float, row: int, column: int) -> None:
        super().__init__()
        self.value, self.place = value, (row, column)

    def forward(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """N3SS -> N3SS."""
        painted = torch.full_like(image, 0.5)
        painted[-1, 1, self.place[0], self.place[1]] = self.value
        return {"predicted": painted, "inpainted": painted}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("size", [(SIZE_PX, SIZE_PX), (SIZE_PX, 2 * SIZE_PX), (40, 25)])
@pytest.mark.parametrize("name", ["local", "polyphase"])
def test_a_fill_that_is_not_finite_is_refused_with_its_number(
    value: float, size: tuple[int, int], name: ProcedureName
) -> None:
    images, masks = make_photo(*size, number=3)
    masks[:] = 1
    masks[:, 0, 0] = 0
    with pytest.raises(NonFiniteFillError, match=r"the fill of picture [13] of 3 is not finite") as refused:
        fill_levels(Spoiler(value, 9, 9), images, masks, SIZE_PX, Procedure(name))
    assert refused.value.number == (2 if size == (SIZE_PX, SIZE_PX) else 0)


@pytest.mark.parametrize("size", [(SIZE_PX, SIZE_PX), (20, 20)], ids=str)
def test_values_that_are_not_finite_outside_the_hole_are_not_looked_at(size: tuple[int, int]) -> None:
    images, masks = torch.full((3, *size, 3), 128, dtype=torch.uint8), torch.zeros(3, *size, dtype=torch.uint8)
    masks[:, 4:8, 4:8] = 1
    filled = fill_levels(Spoiler(float("nan"), 9, 9), images, masks, SIZE_PX)
    assert (filled[masks > 0] == 128).all()


class Marker(nn.Module):
    """Paints the hole of a picture with its position from left to right, whatever is in it."""

    def __init__(self) -> None:
        super().__init__()
        self.num_runs = 0

    def forward(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """N3SS -> N3SS."""
        self.num_runs += 1
        ramp = torch.linspace(0, 1, image.shape[3]).expand_as(image)
        return {"predicted": ramp, "inpainted": torch.where(mask > 0, ramp, image)}


ENSEMBLE, BLUR = ChallengeSteps(ensemble=True), ChallengeSteps(blur=True)


def test_the_ensemble_is_the_mean_of_five_views_each_turned_back() -> None:
    images, masks = make_photo(SIZE_PX, SIZE_PX)
    marker = Marker()
    filled = fill_levels(marker, images, torch.ones_like(masks), SIZE_PX, steps=ENSEMBLE)[0, ..., 0].float() / 255
    across = torch.linspace(0, 1, SIZE_PX).expand(SIZE_PX, SIZE_PX)
    views = [across.mT, across, 1 - across.mT, 1 - across, 1 - across.mT]  # the last: mirrored after transposing
    assert marker.num_runs == 5
    assert torch.allclose(filled, torch.stack(views).mean(dim=0), atol=1 / 255)


class Askew(nn.Module):
    """A network that no symmetry of the square leaves alone, and that remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = torch.rand(3, 4, 3, 3, generator=torch.Generator().manual_seed(7)) / 18
        self.shown: list[Tensor] = []

    def forward(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """N3SS -> N3SS."""
        self.shown.append(image * (1 - mask))
        predicted = torch.nn.functional.conv2d(torch.cat([image * (1 - mask), mask], dim=1), self.kernel, padding=1)
        return {"predicted": predicted, "inpainted": predicted * mask + image * (1 - mask)}


def fill_by_the_script(network: nn.Module, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A photo HxWx3 in [0, 1] of whole tiles as the challenge script fills it, on arrays, without its whole levels.

    Pixel (y, x) of tile (down, right) is the photo's in column right + columns * y and row down + rows * x.
    """
    rows, columns = (length // SIZE_PX for length in mask.shape)
    filled = np.zeros_like(image)
    views = [(0, False), (1, False), (2, False), (3, False), (0, True)]
    for down, right in np.ndindex(rows, columns):
        tile, hole = (
            np.stack([[of[down + rows * x, right + columns * y] for x in range(SIZE_PX)] for y in range(SIZE_PX)])
            for of in (image, mask)
        )
        mean = np.zeros_like(tile)
        for turns, mirrored in views:
            seen = [np.rot90(np.fliplr(of) if mirrored else of, turns).copy() for of in (tile, hole)]
            batch = torch.from_numpy(seen[0]).permute(2, 0, 1)[None], torch.from_numpy(seen[1])[None, None]
            predicted = np.rot90(network(*batch)["predicted"][0].permute(1, 2, 0).numpy(), -turns)
            mean += (np.fliplr(predicted) if mirrored else predicted) / 5
        for y, x in np.ndindex(SIZE_PX, SIZE_PX):
            filled[down + rows * x, right + columns * y] = mean[y, x]
    return np.where(mask[..., None] > 0, filled, image)


@pytest.mark.parametrize("size", [(SIZE_PX, SIZE_PX), (2 * SIZE_PX, 3 * SIZE_PX)], ids=str)
def test_the_ensemble_sees_and_gives_what_the_challenge_script_does(size: tuple[int, int]) -> None:
    images, masks = make_photo(*size)
    image, mask = images[0].float() / 255, masks[0].float()
    ours, theirs = Askew(), Askew()
    filled = fill_levels(ours, images, masks, SIZE_PX, POLYPHASE, ENSEMBLE)[0]
    by_the_script = torch.from_numpy(fill_by_the_script(theirs, image.numpy(), mask.numpy()))
    assert (filled - 255 * by_the_script.clamp(0, 1)).abs().max() < 0.501
    for tiles in (ours.shown, theirs.shown):
        tiles[:] = [tile[None] for batch in tiles for tile in batch]
    assert {tile.numpy().tobytes() for tile in ours.shown} == {tile.numpy().tobytes() for tile in theirs.shown}
    assert not any(torch.equal(tile[0], image.permute(2, 0, 1) * (1 - mask)) for tile in ours.shown)


def test_the_mean_over_views_of_a_network_that_knows_no_direction_is_its_fill() -> None:
    class Mean(nn.Module):
        def forward(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
            known = image * (1 - mask)
            mean = (known.sum(dim=(2, 3), keepdim=True) / (1 - mask).sum(dim=(2, 3), keepdim=True)).expand_as(image)
            return {"predicted": mean, "inpainted": torch.where(mask > 0, mean, image)}

    images, masks = make_photo(40, 50)
    plain, ensemble = (
        fill_levels(Mean(), images, masks, SIZE_PX, POLYPHASE, steps) for steps in (ChallengeSteps(), ENSEMBLE)
    )
    assert (plain.int() - ensemble.int()).abs().max() <= 1
    assert not torch.equal(plain, images)


@pytest.mark.parametrize("size", [(SIZE_PX, SIZE_PX), (40, 50), (17, 90)], ids=str)
@pytest.mark.parametrize("steps", [ENSEMBLE, BLUR, ChallengeSteps(True, True)])
def test_the_steps_of_the_challenge_leave_known_pixels_alone(size: tuple[int, int], steps: ChallengeSteps) -> None:
    images, masks = make_photo(*size)
    filled = fill_levels(Marker(), images, masks, SIZE_PX, steps=steps)
    assert torch.equal(filled[masks == 0], images[masks == 0])
    assert not torch.equal(filled, images)


def test_blur_takes_what_is_finer_than_two_pixels() -> None:
    class Stripes(nn.Module):
        def forward(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
            stripes = torch.arange(image.shape[3]).remainder(2).float().expand_as(image)
            return {"predicted": stripes, "inpainted": stripes}

    images, masks = make_photo(SIZE_PX, SIZE_PX)
    plain, blurred = (
        fill_levels(Stripes(), images, torch.ones_like(masks), SIZE_PX, steps=s)[:, :, 4:-4].float()
        for s in (ChallengeSteps(), BLUR)
    )
    assert plain.std() > 120
    assert blurred.std() < 20
    assert blurred.mean().item() == pytest.approx(127.5, abs=3)
