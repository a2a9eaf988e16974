"""Whatever fills holes, behind one door: a checkpoint, a registered version, or one of OpenCV's two methods.

A filler takes uint8 NHWC images and uint8 NHW masks in {0, 1} and gives uint8 NHWC inpainted pictures; outside the hole
they are the image. Models are named as on the command line: `telea`, `navier-stokes`, a `models:/` URI, or the URI
of a checkpoint or of a training run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.settings import tracking_uri
from nets import build_network
from nets.filling import LOCAL, PLAIN, ChallengeSteps, fill_levels
from pipelines.checkpoints import Checkpoint, open_checkpoint
from pipelines.evaluation.apart import ModelProcess
from pipelines.records import Refused

Pictures = NDArray[np.uint8]

_CLASSICAL: Final = {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS}
_RADIUS_PX: Final = 3
NOTHING: Final[Mapping[str, Tensor]] = MappingProxyType({})
"""What a model is given beside photo and mask where it is given nothing."""


class Filler(Protocol):
    """Fills holes."""

    def __call__(self, images: Pictures, masks: Pictures, beside: Mapping[str, Tensor] = ...) -> Pictures:
        """Images uint8 NHWC, masks uint8 NHW -> inpainted; `beside` as the model takes it."""
        ...


@dataclass(frozen=True)
class Model:
    """A filler and what it is."""

    fill: Filler
    identity: dict[str, str]
    """Its name, one that will never mean another model, and for a network the SHA-256 of its weights."""
    takes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """What it can be given beside photo and mask, by name, as float CHW: `sketch`, `noise`."""
    size_px: int | None = None
    """Side of the pictures for which it can be given that; none where it takes nothing."""


def open_model(name: str, steps: ChallengeSteps = PLAIN) -> Model:
    """The model of a command-line name; raises Refused or Failed where there is none.

    Only the network of a checkpoint takes `steps` beside the plain procedure.
    """
    if steps != PLAIN and (name in _CLASSICAL or name.startswith("models:/")):
        raise Refused(f"{name} fills as it does: ensemble and blur are for the network of a checkpoint or run")
    if name in _CLASSICAL:
        fill = _given_nothing(partial(_fill_classically, _CLASSICAL[name]))
        return Model(fill, {"model": name, "opencv": cv2.__version__})
    if name.startswith("models:/"):
        return _registered(name)
    try:
        return network_model(open_checkpoint(name), steps)
    except Refused as fault:
        raise Refused(f"{fault}; other models are {', '.join(_CLASSICAL)} and models:/NAME@champion") from None


def network_model(checkpoint: Checkpoint, steps: ChallengeSteps = PLAIN) -> Model:
    """The generator of a checkpoint."""
    network = build_network(checkpoint.state["network"]).eval()
    network.load_state_dict(checkpoint.tensors(checkpoint.generator))
    identity = {"model": checkpoint.uri, "weights_sha256": checkpoint.file_sha256(checkpoint.generator)}
    size_px = int(checkpoint.state["size_px"])
    return Model(network_filler(network, size_px, steps), identity, taken_by(network, size_px), size_px)


def network_filler(network: torch.nn.Module, size_px: int, steps: ChallengeSteps = PLAIN) -> Filler:
    """A network as a filler of photos of any size."""

    def fill(images: Pictures, masks: Pictures, beside: Mapping[str, Tensor] = NOTHING) -> Pictures:
        image, mask = (torch.from_numpy(np.ascontiguousarray(x)) for x in (images, masks))
        return fill_levels(network, image, mask, size_px, LOCAL, steps, beside).numpy()

    return fill


def taken_by(network: Any, size_px: int) -> dict[str, tuple[int, ...]]:
    """What the network can be given beside photo and mask, by name, and its shape CHW for pictures of its own size."""
    takes: dict[str, tuple[int, ...]] = {}
    if getattr(network.config, "sketch", False):
        takes["sketch"] = (1, size_px, size_px)
    if getattr(network, "probabilistic", False):
        takes["noise"] = network.noise_shape(torch.empty(1, 3, size_px, size_px))
    return takes


def _given_nothing(fill: Callable[[Pictures, Pictures], Pictures]) -> Filler:
    """A filler of what takes a photo and a mask only."""

    def filler(images: Pictures, masks: Pictures, beside: Mapping[str, Tensor] = NOTHING) -> Pictures:
        if beside:
            raise ValueError(f"this model takes no {', '.join(beside)}")
        return fill(images, masks)

    return filler


def _fill_classically(method: int, images: Pictures, masks: Pictures) -> Pictures:
    pairs = zip(images, masks, strict=True)
    return np.stack([np.asarray(cv2.inpaint(i, m, _RADIUS_PX, method), np.uint8) for i, m in pairs])


def _registered(uri: str) -> Model:
    from infra.tracking import Tracking

    tracking = Tracking(tracking_uri())
    version = tracking.find_version(uri)
    process = ModelProcess.of_version(version, tracking)
    identity = {"model": version.uri, "weights_sha256": process.metadata["weights_sha256"]}
    return Model(_given_nothing(process.fill), identity)
