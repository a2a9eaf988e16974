"""Whatever fills holes, behind one door: a checkpoint, a registered version, or one of OpenCV's two methods.

A filler takes uint8 NHWC images and uint8 NHW masks in {0, 1} and gives uint8 NHWC inpainted pictures; outside the hole
they are the image. Models are named as on the command line: `telea`, `navier-stokes`, a `models:/` URI, or the URI
of a checkpoint or of a training run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from infra.settings import tracking_uri
from nets import build_network
from nets.filling import PLAIN, ChallengeSteps, fill_levels
from pipelines.checkpoints import Checkpoint, open_checkpoint
from pipelines.evaluation.apart import ModelProcess
from pipelines.records import Refused

Pictures = NDArray[np.uint8]
Filler = Callable[[Pictures, Pictures], Pictures]

_CLASSICAL: Final = {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS}
_RADIUS_PX: Final = 3


@dataclass(frozen=True)
class Model:
    """A filler and what it is."""

    fill: Filler
    identity: dict[str, str]
    """Its name, one that will never mean another model, and for a network the SHA-256 of its weights."""


def open_model(name: str, steps: ChallengeSteps = PLAIN) -> Model:
    """The model of a command-line name; raises Refused or Failed where there is none.

    Only the network of a checkpoint takes `steps` beside the plain procedure.
    """
    if steps != PLAIN and (name in _CLASSICAL or name.startswith("models:/")):
        raise Refused(f"{name} fills as it does: ensemble and blur are for the network of a checkpoint or run")
    if name in _CLASSICAL:
        return Model(partial(_fill_classically, _CLASSICAL[name]), {"model": name, "opencv": cv2.__version__})
    if name.startswith("models:/"):
        return _registered(name)
    try:
        return network_model(open_checkpoint(name), steps)
    except Refused as fault:
        raise Refused(f"{fault}; other models are {', '.join(_CLASSICAL)} and models:/NAME@champion") from None


def network_model(checkpoint: Checkpoint, steps: ChallengeSteps = PLAIN) -> Model:
    """The generator of a checkpoint."""
    network = build_network(checkpoint.state["network"]).eval()
    network.load_state_dict(checkpoint.tensors("generator"))
    identity = {"model": checkpoint.uri, "weights_sha256": checkpoint.file_sha256("generator")}
    return Model(network_filler(network, int(checkpoint.state["size_px"]), steps), identity)


def network_filler(network: torch.nn.Module, size_px: int, steps: ChallengeSteps = PLAIN) -> Filler:
    """A network as a filler of photos of any size."""

    def fill(images: Pictures, masks: Pictures) -> Pictures:
        image, mask = (torch.from_numpy(np.ascontiguousarray(x)) for x in (images, masks))
        return fill_levels(network, image, mask, size_px, steps).numpy()

    return fill


def _fill_classically(method: int, images: Pictures, masks: Pictures) -> Pictures:
    pairs = zip(images, masks, strict=True)
    return np.stack([np.asarray(cv2.inpaint(i, m, _RADIUS_PX, method), np.uint8) for i, m in pairs])


def _registered(uri: str) -> Model:
    from infra.tracking import Tracking

    tracking = Tracking(tracking_uri())
    process = ModelProcess(tracking.uri, tracking.resolve(uri))
    identity = {"model": tracking.resolve(uri), "weights_sha256": process.metadata["weights_sha256"]}
    return Model(process.fill, identity)
