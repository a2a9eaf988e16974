"""The pyfunc of a registered version: MLflow runs this file as the model's code, with `nets/` packed beside it.

In: {"image": uint8 (N, H, W, 3), "mask": uint8 (N, H, W) in {0, 1}}, 1 = hole, any H and W, and what the network can be
given beside them. Out: uint8 (N*K, H, W, 3) for K fills of each. It imports nothing of ours but `nets`. Weights,
description and code must be those in the list that lies beside them: they are compared before any of that code runs,
and compiled code that lies there is not taken. MLflow has put `code/` before all installed packages by then, so
whatever could be a file there is imported after the comparison.
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
"""Folder of the version; while MLflow tries this file before it is stored, one that is no version."""
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
"""What a 1 means in inputs that are 0 or 1."""


def read_list() -> dict[str, str]:
    """SHA-256 by path of the files in `artifacts/` and `code/` and of this one; raises ValueError without them."""
    try:
        listed: dict[str, str] = json.loads((ROOT / FILES).read_bytes())
    except (OSError, ValueError):
        raise ValueError(f"{FILES!r} is missing or damaged: register the checkpoint again") from None
    return listed


def refuse_changed_files() -> None:
    """Raise ValueError naming a file that is not as it was registered, is missing, or was not registered."""
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
                f"{name!r} is not as it was when this version was registered: it was changed, exchanged, added or "
                "removed; register the checkpoint again"
            )


def refuse_other_code() -> None:
    """Raise ValueError where this process has loaded another version's `nets`, which Python would go on to use."""
    listed = read_list()
    for name, module in sorted(sys.modules.items()):
        source = getattr(module, "__file__", None)
        if source and (name == "nets" or name.startswith("nets.")):
            path = Path("code", *name.split("."))
            within = path / "__init__.py" if Path(source).name == "__init__.py" else path.with_suffix(".py")
            if hashlib.sha256(Path(source).read_bytes()).hexdigest() != listed.get(within.as_posix()):
                raise ValueError(f"{source} is not the code of this version: load it in a process of its own")


def read_inputs(model_input: dict[str, np.ndarray], takes: set[str]) -> dict[str, np.ndarray]:
    """Arrays by name, of the types and shapes of INPUTS.

    Raises ValueError for one that the network does not take, that is missing, or of another type, shape or value.
    """
    if unknown := sorted(model_input.keys() - {*REQUIRED} - takes):
        raise ValueError(f"unknown input {unknown[0]!r}: give {', '.join([*REQUIRED, *sorted(takes)])}")
    if missing := sorted({*REQUIRED} - model_input.keys()):
        raise ValueError(f"input {missing[0]!r} is missing: give {', '.join(REQUIRED)}")
    given = {name: _whole_numbers(np.asarray(array), name) for name, array in model_input.items()}
    image = given["image"]
    sizes = {"2": 2, "3": 3, **dict(zip("NHW", image.shape, strict=False))}
    for name, array in given.items():
        layout = INPUTS[name][1]
        if array.shape != tuple(sizes.get(axis) for axis in layout):
            raise ValueError(
                f"image {image.shape} and {name} {array.shape} do not belong together: give {INPUTS['image'][1]} and "
                f"{layout}"
            )
        if name in MARKS and array.size and array.max() > 1:
            raise ValueError(
                f"the {name} has a value of {array.max()}: use 1 for {MARKS[name]} pixels and 0 for other ones"
            )
    return given


def _whole_numbers(array: np.ndarray, name: str) -> np.ndarray:
    """The array in the type of its input; servers without a schema make 64-bit numbers of JSON."""
    kind = INPUTS[name][0]
    if array.dtype.kind not in "iu" or (array.size and not 0 <= array.min() <= array.max() <= np.iinfo(kind).max):
        raise ValueError(f"{name} is of {array.dtype}: give {np.dtype(kind)}")
    return np.ascontiguousarray(array, kind)


def refuse_other_number(num_fills: int, takes: set[str], is_keyed: bool) -> None:
    """Raise ValueError where the network cannot give so many fills of a photo."""
    if num_fills < 1:
        raise ValueError(f"num_fills is {num_fills}: give 1 or more")
    if num_fills > 1 and "noise" not in takes:
        raise ValueError(f"num_fills is {num_fills}: this network gives one fill per photo")
    if num_fills > 1 and is_keyed:
        raise ValueError(f"num_fills is {num_fills} beside keys of noise, which are of one fill: give one of them")


@contextmanager
def without_compiled_code() -> Iterator[None]:
    """Keep Python from taking or leaving compiled code beside the sources for the time of the block."""
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
    from nets.procedures.noise import keyed_noise, seeded_keys


class Inpainter(PythonModel):
    """A generator that fills photos of any size."""

    def load_context(self, context: PythonModelContext) -> None:
        """Reads network and weights; raises ValueError where files or code are not those that were registered."""
        refuse_changed_files()
        refuse_other_code()
        description = json.loads((ROOT / "artifacts" / "network.json").read_bytes())
        weights = (ROOT / "artifacts" / "generator.safetensors").read_bytes()
        self._network = build_network(description["network"]).eval()
        self._network.load_state_dict(load(weights))
        self._size_px, self._takes = int(description["size_px"]), set(description["takes"])
        self._procedure = Procedure(**description["procedure"])
        asked = context.model_config or {}
        if asked.get("procedure"):
            self._procedure = replace(self._procedure, name=asked["procedure"])
        self._network.to(asked.get("device", "cpu"))

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Inpainted pictures (N*K, H, W, 3), photo by photo, of `num_fills` K; raises ValueError for unfit inputs.

        `model_input` is a dict of arrays, for which MLflow takes no other hint without complaint. Beside `image` and
        `mask` a network may take `sketch` uint8 (N, H, W) in {0, 1}, 1 = stroke, and `segmentation` uint8
        (N, H, W, 3). One fill is the network's mean, several are drawn by `seed`; or, one for each photo, by the keys
        `noise` uint64 (N, 2) in place of it.
        """
        given = read_inputs(dict(model_input), self._takes)
        params = params or {}
        num_fills = int(params.get("num_fills", 1))
        refuse_other_number(num_fills, self._takes, "noise" in given)
        if num_fills == 1:
            return self._fill(given, given.get("noise"))
        seed, num_photos = int(params.get("seed", 0)), len(given["image"])
        fills = [self._fill(given, seeded_keys(seed, number, num_photos)) for number in range(num_fills)]
        return np.stack(fills, axis=1).reshape(-1, *fills[0].shape[1:])

    def _fill(self, given: dict[str, np.ndarray], noise: np.ndarray | None) -> np.ndarray:
        """One fill of each photo (N, H, W, 3)."""
        image, mask = (torch.from_numpy(given[name]) for name in ("image", "mask"))
        beside = {}
        if "sketch" in given:
            beside["sketch"] = torch.from_numpy(given["sketch"]).unsqueeze(1).float()
        if "segmentation" in given:
            beside["segmentation"] = torch.from_numpy(given["segmentation"]).permute(0, 3, 1, 2).float() / 255
        drawn = None if noise is None else keyed_noise(noise)
        return fill_levels(self._network, image, mask, self._size_px, self._procedure, PLAIN, beside, drawn).numpy()


set_model(Inpainter())
