"""The pyfunc of a registered version: MLflow runs this file as the model's code, with `nets/` packed beside it.

In: {"image": uint8 (N, H, W, 3), "mask": uint8 (N, H, W) in {0, 1}}, 1 = hole, any H and W. Out: uint8 (N, H, W, 3). It
imports nothing of ours but `nets`. Weights, description and code must be those in the list that lies beside them: they
are compared before any of that code runs, and compiled code that lies there is not taken. MLflow has put `code/` before
all installed packages by then, so whatever could be a file there is imported after the comparison.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

ROOT = Path(__file__).parent
"""Folder of the version; while MLflow tries this file before it is stored, one that is no version."""
FILES = "artifacts/files.json"


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
    from nets.filling import fill_levels


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
        self._size_px = int(description["size_px"])

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Inpainted pictures; raises ValueError for a mask of another size or with values other than 0 and 1.

        `model_input` is a dict of arrays, for which MLflow takes no other hint without complaint.
        """
        image, mask = (np.ascontiguousarray(model_input[name]) for name in ("image", "mask"))
        num_fills = int((params or {}).get("num_fills", 1))
        if image.shape[:3] != mask.shape:
            raise ValueError(f"image {image.shape} and mask {mask.shape} do not belong together: (N,H,W,3) and (N,H,W)")
        if mask.size and mask.max() > 1:
            raise ValueError(f"the mask has a value of {mask.max()}: use 1 for hole pixels and 0 for known ones")
        if num_fills != 1:
            raise ValueError(f"num_fills is {num_fills}: this network gives one fill per photo")
        return fill_levels(self._network, torch.from_numpy(image), torch.from_numpy(mask), self._size_px).numpy()


set_model(Inpainter())
