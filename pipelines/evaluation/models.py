"""Whatever fills holes, by one name: a checkpoint, a registered version, or one of OpenCV's two methods.

A filler takes uint8 NHWC images and uint8 NHW masks in {0, 1} and gives uint8 NHWC inpainted pictures; outside the hole
they are the image. Models are named as on the command line: `telea`, `navier-stokes`, a `models:/` URI, or the URI
of a checkpoint or of a training run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.settings import tracking_uri
from nets import build_network
from nets.filling import LOCAL, NOTHING, PROCEDURES, Procedure, ProcedureName, fill_levels
from nets.procedures.network import PLAIN, ChallengeSteps
from nets.procedures.noise import keyed_noise
from pipelines.checkpoints import Checkpoint, open_checkpoint
from pipelines.evaluation.model_process import ModelProcess
from pipelines.records import UsageError

Pictures = NDArray[np.uint8]
NoiseKeys = NDArray[np.uint64]
"""Keys of the noise of each photo of a batch, N x 2, from `nets.procedures.noise.seeded_keys` or `SampleNoise.keys`."""

_CLASSICAL: Final = {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS}
_RADIUS_PX: Final = 3


class Filler(Protocol):
    """Fills holes."""

    def __call__(
        self, images: Pictures, masks: Pictures, beside: Mapping[str, Tensor] = ..., noise: NoiseKeys | None = ...
    ) -> Pictures:
        """Images uint8 NHWC, masks uint8 NHW -> inpainted.

        `beside`, by the names that the model takes, of the photos' size: `sketch` float N1HW in {0, 1}, `segmentation`
        float N3HW in [0, 1]. `noise`: keys of the noise of a fill, N x 2; without it the mean of what is probable.
        """
        ...


@dataclass(frozen=True)
class Model:
    """A filler and what it is."""

    fill: Filler
    identity: dict[str, str]
    """Its name, one that will never mean another model, and for a network the SHA-256 of its weights."""
    takes: frozenset[str] = frozenset()
    """What it can be given beside photo and mask, for photos of any size: of `sketch`, `segmentation`, `noise`."""
    procedure: str | None = None
    """Name of the way in which it fills photos of other sizes than its own; none for classical methods, and for
    versions that were registered before it was written down."""


def open_model(
    name: str, steps: ChallengeSteps = PLAIN, procedure: ProcedureName | None = None, device: str = "cpu"
) -> Model:
    """The model of a command-line name; raises UsageError or JobError where there is none.

    Only the network of a checkpoint takes `steps` beside the plain procedure. `procedure`: a name of
    `nets.filling.PROCEDURES` in place of the model's own. `device`: where a network computes, see `choose_device`.
    """
    _refuse_unusable(name, steps, procedure)
    if name in _CLASSICAL:
        fill = _given_nothing(partial(_fill_classically, _CLASSICAL[name]))
        return Model(fill, {"model": name, "opencv": cv2.__version__})
    if name.startswith("models:/"):
        return _registered(name, procedure, device)
    try:
        return make_network_model(open_checkpoint(name), steps, procedure, device)
    except UsageError as fault:
        raise UsageError(f"{fault}; other models are {', '.join(_CLASSICAL)} and models:/NAME@champion") from None


def choose_device() -> str:
    """A GPU where there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _refuse_unusable(name: str, steps: ChallengeSteps, procedure: ProcedureName | None) -> None:
    """Raise UsageError where the model of this name cannot be asked to fill so."""
    if steps != PLAIN and (name in _CLASSICAL or name.startswith("models:/")):
        raise UsageError(f"{name} fills as it does: ensemble and blur are for the network of a checkpoint or run")
    if procedure is not None and name in _CLASSICAL:
        raise UsageError(f"{name} has no procedure, {procedure!r} was given: leave --procedure out, or name a network")
    if procedure is not None and procedure not in PROCEDURES:
        raise UsageError(f"unknown procedure {procedure!r}: use one of {', '.join(PROCEDURES)}")


def make_network_model(
    checkpoint: Checkpoint, steps: ChallengeSteps = PLAIN, procedure: ProcedureName | None = None, device: str = "cpu"
) -> Model:
    """The generator of a checkpoint."""
    network = build_network(checkpoint.state["network"]).eval()
    network.load_state_dict(checkpoint.tensors(checkpoint.generator))
    identity = {"model": checkpoint.uri, "weights_sha256": checkpoint.file_sha256(checkpoint.generator)}
    used = checkpoint.procedure if procedure is None else replace(checkpoint.procedure, name=procedure)
    fill = make_network_filler(network.to(device), int(checkpoint.state["size_px"]), used, steps)
    return Model(fill, identity, list_optional_inputs(network), used.name)


def make_network_filler(
    network: torch.nn.Module, size_px: int, procedure: Procedure = LOCAL, steps: ChallengeSteps = PLAIN
) -> Filler:
    """A network as a filler of photos of any size."""

    def fill(
        images: Pictures, masks: Pictures, beside: Mapping[str, Tensor] = NOTHING, noise: NoiseKeys | None = None
    ) -> Pictures:
        image, mask = (torch.from_numpy(np.ascontiguousarray(x)) for x in (images, masks))
        drawn = None if noise is None else keyed_noise(noise)
        return fill_levels(network, image, mask, size_px, procedure, steps, beside, drawn).numpy()

    return fill


def list_optional_inputs(network: Any) -> frozenset[str]:
    """What the network can be given beside photo and mask, by name."""
    planes = {name for name in ("sketch", "segmentation") if getattr(network.config, name, False)}
    return frozenset(planes | ({"noise"} if getattr(network, "probabilistic", False) else set()))


def _given_nothing(fill: Callable[[Pictures, Pictures], Pictures]) -> Filler:
    """A filler of what takes a photo and a mask only."""

    def filler(
        images: Pictures, masks: Pictures, beside: Mapping[str, Tensor] = NOTHING, noise: NoiseKeys | None = None
    ) -> Pictures:
        if beside or noise is not None:
            raise ValueError(f"this model takes no {', '.join([*beside, *(() if noise is None else ('noise',))])}")
        return fill(images, masks)

    return filler


def _fill_classically(method: int, images: Pictures, masks: Pictures) -> Pictures:
    pairs = zip(images, masks, strict=True)
    return np.stack([np.asarray(cv2.inpaint(i, m, _RADIUS_PX, method), np.uint8) for i, m in pairs])


def _registered(uri: str, procedure: ProcedureName | None, device: str) -> Model:
    from infra.tracking import Tracking

    tracking = Tracking(tracking_uri())
    version = tracking.find_version(uri)
    config = ({"procedure": procedure} if procedure else {}) | ({"device": device} if device != "cpu" else {})
    process = ModelProcess.from_version(version, tracking, config)
    about = process.metadata
    if procedure is not None and "procedure" not in about:
        process.close()
        raise UsageError(
            f"{version.uri} was registered without a procedure and fills by its own, {procedure!r} was given: leave "
            "--procedure out, or register the checkpoint again"
        )
    used = procedure or about.get("procedure", {}).get("name")
    identity = {"model": version.uri, "weights_sha256": about["weights_sha256"]}
    return Model(process.fill, identity, frozenset(about.get("takes", ())), used)
