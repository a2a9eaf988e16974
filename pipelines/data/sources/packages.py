"""Photos inside scikit-image, scikit-learn and matplotlib: the data of a demo without any download.

Whole photos are held out, never crops of one. Paths are relative to the folder in which the packages are installed.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pipelines.data.archive.tree import Tree
from pipelines.records import Photo, UsageError

_SKIMAGE: Final = "skimage/data"
_SKLEARN: Final = "sklearn/datasets/images"
_MATPLOTLIB: Final = "matplotlib/mpl-data/sample_data"

_PNGS: Final = ("astronaut", "brick", "coins", "grass", "gravel", "moon", "motorcycle_left", "motorcycle_right")
TRAIN: Final = (
    *(f"{_SKIMAGE}/{name}.png" for name in _PNGS),
    *(f"{_SKIMAGE}/{name}.jpg" for name in ("hubble_deep_field", "retina")),
    f"{_SKLEARN}/china.jpg",
    f"{_MATPLOTLIB}/grace_hopper.jpg",
)
VAL: Final = (
    *(f"{_SKIMAGE}/{name}" for name in ("camera.png", "chelsea.png", "coffee.png", "rocket.jpg")),
    f"{_SKLEARN}/flower.jpg",
)


def find_packages_root() -> str:
    """Folder that holds the three packages; raises UsageError where one of them is missing."""
    specs = {name: find_spec(name) for name in ("skimage", "sklearn", "matplotlib")}
    for name, spec in specs.items():
        if spec is None or spec.origin is None:
            raise UsageError(f"the package {name} is not installed: install it, its photos are part of this source")
    origin = specs["skimage"]
    assert origin is not None and origin.origin is not None
    return str(Path(origin.origin).parent.parent)


def list_packages(tree: Tree, splits: str) -> Iterator[Photo]:
    """Yield the photos of `TRAIN` and `VAL`."""
    folders = (folder for folder in (_SKIMAGE, _SKLEARN, _MATPLOTLIB) if tree.exists(folder))
    found = {file.path: file for folder in folders for file in tree.files(folder) if file.path in TRAIN + VAL}
    for split, paths in (("train", TRAIN), ("val", VAL)):
        for path in paths:
            if path not in found:
                raise UsageError(
                    f"no {path} under {tree.root}: install scikit-image, scikit-learn and matplotlib as pinned"
                )
            yield found[path].as_photo(split)
