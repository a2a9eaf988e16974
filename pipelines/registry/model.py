"""The pyfunc of a registered version: MLflow runs this file as the model's code, with `nets/` packed beside it.

In: {"image": uint8 (N, H, W, 3), "mask": uint8 (N, H, W) in {0, 1}}, 1 = hole, any H and W. Out: uint8 (N, H, W, 3). It
imports nothing of ours but `nets`, and reads weights only as safetensors whose SHA-256 is the recorded one.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from safetensors.torch import load

from nets import build_network
from nets.filling import fill_levels


class Inpainter(PythonModel):
    """A generator that fills photos of any size."""

    def load_context(self, context: PythonModelContext) -> None:
        """Reads network and weights; raises ValueError where the weights are not those that were registered."""
        description = json.loads(Path(context.artifacts["network"]).read_text())
        weights = Path(context.artifacts["weights"]).read_bytes()
        digest = hashlib.sha256(weights).hexdigest()
        if digest != description["weights_sha256"]:
            raise ValueError(
                f"the weights have SHA-256 {digest}, registered were {description['weights_sha256']}: they are damaged "
                "or were exchanged; register the checkpoint again"
            )
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
