"""Scores of another system's folders: the same for every convention of holes, and those of scikit-image."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pipelines.evaluation.comparison import compare
from pipelines.evaluation.evaluate_results import ResultFolders, evaluate_results
from pipelines.evaluation.metrics import METRICS
from pipelines.evaluation.protocol import EvalProtocol
from pipelines.evaluation.scorecard import Scorecard, load_scorecard
from pipelines.records import UsageError
from tests.evaluation.foreign_results import CONVENTIONS, draw_mask, draw_photo, fill_blurred, save, write_system

pytestmark = pytest.mark.thorough


def score(folder: Path, hole: str = "auto", system: str = "blur") -> Scorecard:
    """Scores of the folders that `write_system` writes."""
    folders = ResultFolders(system, str(folder / "out"), str(folder / "photos"), str(folder / "masks"), hole)
    return evaluate_results(folders, str(folder / "scores"), lambda *_: None, EvalProtocol())


@pytest.fixture(scope="module")
def white(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> tuple[Path, Scorecard]:
    """A folder of twenty results, in two chunks, and its scores."""
    folder = tmp_path_factory.mktemp("white")
    write_system(folder, 20)
    return folder, score(folder)


@pytest.mark.parametrize("hole", CONVENTIONS)
def test_every_convention_of_holes_gives_the_same_scores(
    white: tuple[Path, Scorecard], tmp_path: Path, hole: str
) -> None:
    write_system(tmp_path, 20, hole)
    card = score(tmp_path, hole)
    assert card.rows == white[1].rows
    assert card.model["model"] == "results:blur"


def test_scores_are_those_of_scikit_image_on_the_arrays(white: tuple[Path, Scorecard]) -> None:
    rows = {row["key"]: row for row in white[1].rows}
    assert len(rows) == 20
    for number, row in enumerate(rows.values()):
        photo, mask = draw_photo(number), draw_mask(number)
        fill, hole = fill_blurred(photo, mask), mask > 0
        ssim = structural_similarity(
            photo, fill, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )[1]
        assert row["psnr_image"] == pytest.approx(peak_signal_noise_ratio(photo, fill), rel=1e-9)
        assert row["ssim_hole"] == pytest.approx(ssim[hole].mean(), abs=5e-6)
        error = np.abs(photo.astype(float) - fill)[hole]
        assert row["l1_hole"] == pytest.approx(error.mean() / 2.55, rel=1e-9)


def test_changed_known_pixels_are_said_and_scored_as_given_too(tmp_path: Path, ray_cluster: None) -> None:
    write_system(tmp_path, 6)
    path = tmp_path / "out" / "003.png"
    changed = np.asarray(Image.open(path)).copy()
    changed[0] = 255 - changed[0]
    save(path, changed)
    card = score(tmp_path)
    (row,) = (row for row in card.rows if row["known_change_share"] > 0)
    assert row["given_psnr_image"] < row["psnr_image"]
    assert any(note.startswith("1 of 6 results changed known pixels") for note in card.passport["notes"])


def test_the_same_command_reads_the_scores_and_another_result_is_refused(tmp_path: Path, ray_cluster: None) -> None:
    write_system(tmp_path, 6)
    card = score(tmp_path)
    assert score(tmp_path) == card == load_scorecard(str(tmp_path / "scores"))
    save(tmp_path / "out" / "000.png", draw_photo(99))
    with pytest.raises(UsageError, match=r"holds scores with model\.inputs_sha256 = "):
        score(tmp_path)


def test_two_systems_on_the_same_pairs_are_compared(white: tuple[Path, Scorecard], tmp_path: Path) -> None:
    write_system(tmp_path, 20, "black")
    for number in range(20):
        photo, mask = draw_photo(number), draw_mask(number)
        save(tmp_path / "out" / f"{number:03d}.png", np.where(mask[..., None] > 0, np.uint8(0), photo))
    other = score(tmp_path, "black", system="zero")
    gain = compare(white[1], other, "psnr_hole").overall
    assert gain.num_pairs == 20
    assert gain.gain == pytest.approx(white[1].mean("psnr_hole") - other.mean("psnr_hole"))
    assert gain.low > 0


def test_gray_edges_of_masks_are_counted_in_a_note(tmp_path: Path, ray_cluster: None) -> None:
    write_system(tmp_path, 6)
    mask = draw_mask(2) * np.uint8(255)
    mask[25, 8:16] = 90
    save(tmp_path / "masks" / "002.png", mask)
    notes = score(tmp_path).passport["notes"]
    assert [note for note in notes if note.startswith("1 of 6 pairs: mask: 8 gray pixels count as known")]


class Page(HTMLParser):
    """Tags of a page, and every address that it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_stands_alone_and_shows_worst_median_and_best(white: tuple[Path, Scorecard]) -> None:
    text = (white[0] / "scores" / "scores.html").read_text()
    page = Page(text)
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert page.tags.count("img") == 27  # three of each, as photo, hole and fill
    order = sorted(white[1].rows, key=lambda row: row["psnr_hole"])
    for title, row in (("worst 1", order[0]), ("best 3", order[-1])):
        assert re.search(rf"<b>{title}</b>: {row['key']}, {row['psnr_hole']:.2f} dB", text)
    assert f"{white[1].mean('psnr_hole'):.2f} dB PSNR in the hole" in text
    assert all(name in text for name in METRICS)


def test_a_name_cannot_put_markup_into_the_page(tmp_path: Path, ray_cluster: None) -> None:
    write_system(tmp_path, 5)
    score(tmp_path, system="<script>alert(1)</script>")
    assert "<script" not in (tmp_path / "scores" / "scores.html").read_text()
