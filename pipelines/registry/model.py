"""Pyfunc of a registered version: MLflow runs this file as the model's code, with `nets/` packed beside it.

In: {"image": uint8 (N, H, W, 3), "mask": uint8 (N, H, W) in {0, 1}}, 1 = hole, any H and W, and the network's further
inputs. Out: uint8 (N*K, H, W, 3) for K fills of each. It imports nothing of Lacuna but `nets`. Weights, description and
code must be those of the stored list of files: they are compared before any of that code runs, and compiled code in the
folder is ignored. MLflow has put `code/` before all installed packages by then, so packages that a file there could
replace are imported after the comparison.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

ROOT = Path(__file__).parent
"""Folder of the version; while MLflow tries this file before it is stored, another folder."""
FILES = "artifacts/files.json"
INPUTS: dict[str, tuple[type[np.unsignedinteger], str]] = {
    "image": (np.uint8, "NHW3"),
    "mask": (np.uint8, "NHW"),
    "sketch": (np.uint8, "NHW"),
    "segmentation": (np.uint8, "NHW3"),
    "noise": (np.uint64, "N2"),
}
"""Type and axes of every input."""
REQUIRED = ("image", "mask")
MARKS = {"mask": "hole", "sketch": "stroke"}
"""Meaning of 1 in inputs that are 0 or 1."""


def read_list() -> dict[str, str]:
    """SHA-256 by path of the files in `artifacts/` and `code/` and of this file; raises ValueError without a list."""
    try:
        listed: dict[str, str] = json.loads((ROOT / FILES).read_bytes())
    except (OSError, ValueError):
        raise ValueError(f"{FILES!r} is missing or damaged: register the checkpoint again") from None
    return listed


def refuse_changed_files() -> None:
    """Raise ValueError naming a file that was changed, removed or added since the registration."""
    listed = read_list()
    there = {
        path.relative_to(ROOT).as_posix()
        for folder in ("artifacts", "code")
        for path in (ROOT / folder).rglob("*")
        if "__pycache__" not in path.parts and (path.is_symlink() or not path.is_dir())
    }
    for name in sorted(listed.keys() | there - {FILES}):
        path = ROOT / name
        is_listed_file = name in listed and path.is_file() and not path.is_symlink()
        if not is_listed_file or hashlib.sha256(path.read_bytes()).hexdigest() != listed[name]:
            raise ValueError(
                f"{name!r} was changed, added or removed after this version was registered: register the checkpoint "
                "again"
            )


def refuse_other_code() -> None:
    """Raise ValueError where this process has loaded another version's `nets`, which Python would continue to use."""
    listed = read_list()
    for name, module in sorted(sys.modules.items()):
        source = getattr(module, "__file__", None)
        if source and (name == "nets" or name.startswith("nets.")):
            path = Path("code", *name.split("."))
            within = path / "__init__.py" if Path(source).name == "__init__.py" else path.with_suffix(".py")
            if hashlib.sha256(Path(source).read_bytes()).hexdigest() != listed.get(within.as_posix()):
                raise ValueError(f"{source} is not the code of this version: load the version in a fresh process")


def read_inputs(model_input: dict[str, np.ndarray], takes: set[str]) -> dict[str, np.ndarray]:
    """Arrays by name, of the types and shapes of INPUTS.

    Raises ValueError for an input that is unknown to the network, missing, or of another type, shape or value.
    """
    if unknown := sorted(model_input.keys() - {*REQUIRED} - takes):
        raise ValueError(f"unknown input {unknown[0]!r}: give {', '.join([*REQUIRED, *sorted(takes)])}")
    if missing := sorted({*REQUIRED} - model_input.keys()):
        raise ValueError(f"input {missing[0]!r} is missing: give {', '.join(REQUIRED)}")
    arrays = {name: _to_unsigned(np.asarray(array), name) for name, array in model_input.items()}
    image = arrays["image"]
    sizes = {"2": 2, "3": 3, **dict(zip("NHW", image.shape, strict=False))}
    for name, array in arrays.items():
        layout = INPUTS[name][1]
        if array.shape != tuple(sizes.get(axis) for axis in layout):
            raise ValueError(
                f"image {image.shape} and {name} {array.shape} do not fit together: give {INPUTS['image'][1]} and "
                f"{layout}"
            )
        if name in MARKS and array.size and array.max() > 1:
            raise ValueError(
                f"the {name} has a value of {array.max()}: use 1 for {MARKS[name]} pixels and 0 for other ones"
            )
    return arrays


def _to_unsigned(array: np.ndarray, name: str) -> np.ndarray:
    """Array in the type of its input; servers without a schema make 64-bit numbers of JSON."""
    kind = INPUTS[name][0]
    if array.dtype.kind not in "iu" or (array.size and not 0 <= array.min() <= array.max() <= np.iinfo(kind).max):
        raise ValueError(f"{name} has type {array.dtype}: give {np.dtype(kind)}")
    return np.require(array, kind, ["C", "W"])  # torch warns of arrays that cannot be written to


def refuse_other_number(num_fills: int, takes: set[str], is_keyed: bool) -> None:
    """Raise ValueError where the network cannot make so many fills of a photo."""
    if num_fills < 1:
        raise ValueError(f"num_fills is {num_fills}: give 1 or more")
    if num_fills > 1 and "noise" not in takes:
        raise ValueError(f"num_fills is {num_fills}: this network gives one fill per photo")
    if num_fills > 1 and is_keyed:
        raise ValueError(f"num_fills is {num_fills}, but keys of noise are for one fill: give only one of them")


@contextmanager
def without_compiled_code() -> Iterator[None]:
    """Keep Python from reading or writing compiled code beside the sources within the block."""
    before = sys.pycache_prefix, sys.dont_write_bytecode
    sys.pycache_prefix, sys.dont_write_bytecode = os.devnull, True
    try:
        yield
    finally:
        sys.pycache_prefix, sys.dont_write_bytecode = before


if (ROOT / "MLmodel").exists():
    refuse_changed_files()
import torch  # noqa: E402 - files in `code/` are found before installed packages
from safetensors.torch import load  # noqa: E402

with without_compiled_code():
    from nets import build_network
    from nets.filling import Procedure, fill_levels
    from nets.procedures.network import PLAIN
    from nets.procedures.noise import make_keyed_noise, make_noise_keys


class Inpainter(PythonModel):
    """Generator that fills photos of any size."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read network and weights; raises ValueError where files or code are not those that were registered."""
        refuse_changed_files()
        refuse_other_code()
        description = json.loads((ROOT / "artifacts" / "network.json").read_bytes())
        weights = (ROOT / "artifacts" / "generator.safetensors").read_bytes()
        self._network = build_network(description["network"]).eval()
        self._network.load_state_dict(load(weights))
        self._size_px, self._takes = int(description["size_px"]), set(description["takes"])
        self._procedure = Procedure(**description["procedure"])
        config = context.model_config or {}
        if config.get("procedure"):
            self._procedure = replace(self._procedure, name=config["procedure"])
        self._network.to(config.get("device", "cpu"))

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Inpainted pictures (N*K, H, W, 3), photo by photo, of `num_fills` K; raises ValueError for unfit inputs.

        `model_input` is a dict of arrays; MLflow accepts no other type hint for one without a warning. Besides `image`
        and `mask` a network may take `sketch` uint8 (N, H, W) in {0, 1}, 1 = stroke, and `segmentation` uint8
        (N, H, W, 3). One fill is the network's mean; several are drawn by `seed`; one per photo may be drawn by the
        keys `noise` uint64 (N, 2) instead.
        """
        arrays = read_inputs(dict(model_input), self._takes)
        params = params or {}
        num_fills = int(params.get("num_fills", 1))
        refuse_other_number(num_fills, self._takes, "noise" in arrays)
        if num_fills == 1:
            return self._fill(arrays, arrays.get("noise"))
        seed, num_photos = int(params.get("seed", 0)), len(arrays["image"])
        fills = [self._fill(arrays, make_noise_keys(seed, number, num_photos)) for number in range(num_fills)]
        return np.stack(fills, axis=1).reshape(-1, *fills[0].shape[1:])

    def _fill(self, arrays: dict[str, np.ndarray], noise: np.ndarray | None) -> np.ndarray:
        """Fill of each photo, uint8 (N, H, W, 3)."""
        image, mask = (torch.from_numpy(arrays[name]) for name in ("image", "mask"))
        guides = {}
        if "sketch" in arrays:
            guides["sketch"] = torch.from_numpy(arrays["sketch"]).unsqueeze(1).float()
        if "segmentation" in arrays:
            guides["segmentation"] = torch.from_numpy(arrays["segmentation"]).permute(0, 3, 1, 2).float() / 255
        drawn = None if noise is None else make_keyed_noise(noise)
        return fill_levels(self._network, image, mask, self._size_px, self._procedure, PLAIN, guides, drawn).numpy()


set_model(Inpainter())
