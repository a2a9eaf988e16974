"""What `lacuna fill` says of many photos beside what it fills: soft masks, files left out, a damaged folder."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.records import UsageError
from tests.jobs.fills import HEIGHT, WIDTH, fill, photos_and_masks
from tests.making import files_of, photo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six photos with masks."""
    return photos_and_masks(tmp_path, 6)


def test_damaged_settings_of_a_folder_are_refused_with_what_to_do(folder: Path) -> None:
    fill(folder)
    settings_file = folder / "out" / ".lacuna" / "fill.json"
    for data in (b"", b"{}", settings_file.read_bytes().replace(b"telea", b"teleb")):
        settings_file.write_bytes(data)
        before = files_of(folder / "out")
        with pytest.raises(
            UsageError, match=r"fill\.json is damaged, .*: name another --out, or remove them and \.lacuna"
        ):
            fill(folder)
        assert files_of(folder / "out") == before
    for name in (".lacuna", "class0", "class1"):
        shutil.rmtree(folder / "out" / name)
    assert fill(folder)["num_filled"] == 6


def test_soft_edges_of_masks_are_said_by_their_number(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mask = folder / "masks" / "class0" / "000_mask.png"
    levels = np.array(Image.open(mask))
    levels[20, 20:24] = 100
    Image.fromarray(levels).save(mask)
    fill(folder)
    words = "4 px of the mask are gray and count as known: --grow PX fills them around its hole"
    assert re.search(rf"^class0/000 +filled +42x30 +8\.57%  {words}$", capfd.readouterr().err, re.MULTILINE)
    report = fill(folder, image=str(folder / "photos" / "class0" / "000.jpg"), mask=str(mask), out="000.png")
    assert report["num_gray_px"] == 4
    assert f"000.jpg: {words}" in capfd.readouterr().err


def test_masks_among_the_photos_stand_in_the_table_as_left_out(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        photo(number, HEIGHT, WIDTH).save(folder / "photos" / "class0" / f"00{2 * number}_mask.jpg")
    for _ in range(2):
        report = fill(folder)
        assert (report["num_photos"], report["num_left_out"], report["num_refused"]) == (6, 2, 0)
        rows = re.findall(r"^(\S+) +left out +(.*)$", capfd.readouterr().err, re.MULTILINE)
        why = "a mask or map of another picture by its name: to fill it, name it alone as --image"
        assert rows == [("class0/000_mask", why), ("class0/002_mask", why)]
    whole = folder / "photos"
    shutil.copytree(folder / "masks", whole, dirs_exist_ok=True)
    for path in whole.rglob("*_mask.jpg"):
        path.unlink()
    assert fill(folder, mask=str(whole), out="beside")["num_left_out"] == 0
