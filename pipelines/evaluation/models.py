"""Models by name: a checkpoint, a registered version, a classical method, or a network in a file of another program.

A filler takes uint8 NHWC images and uint8 NHW masks in {0, 1} and returns uint8 NHWC inpainted pictures; outside the
hole they are the image. Models are named as on the command line: a name of `classical.METHODS`, a `models:/` URI,
`onnx:FILE`, `torchscript:FILE`, or the URI of a checkpoint or of a training run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.settings import get_tracking_uri
from nets import build_network
from nets.filling import LOCAL, NOTHING, PROCEDURES, Procedure, ProcedureName, fill_levels
from nets.procedures.network import PLAIN, ChallengeSteps
from nets.procedures.noise import make_keyed_noise
from pipelines.checkpoints import Checkpoint, open_checkpoint
from pipelines.evaluation.classical import METHODS, find_version
from pipelines.evaluation.foreign_networks import is_foreign, open_foreign_network
from pipelines.evaluation.model_process import ModelProcess
from pipelines.records import UsageError

Pictures = NDArray[np.uint8]
NoiseKeys = NDArray[np.uint64]
"""Keys of the noise of each photo, N x 2, from `nets.procedures.noise.make_noise_keys` or `SampleNoise.keys`."""


class Filler(Protocol):
    """Function that fills holes."""

    def __call__(
        self, images: Pictures, masks: Pictures, guides: Mapping[str, Tensor] = ..., noise: NoiseKeys | None = ...
    ) -> Pictures:
        """Images uint8 NHWC, masks uint8 NHW -> inpainted.

        `guides`, by the names in the model's `takes`, of the photos' size: `sketch` float N1HW in {0, 1},
        `segmentation` float N3HW in [0, 1]. `noise`: keys of the noise of a fill, N x 2; without it the mean fill.
        """
        ...


@dataclass(frozen=True)
class Model:
    """Filler with its identity and its optional inputs."""

    fill: Filler
    identity: dict[str, str]
    """Name, one that will never mean another model, and for a network the SHA-256 of its weights or of its file."""
    takes: frozenset[str] = frozenset()
    """Optional inputs, for photos of any size: of `sketch`, `segmentation`, `noise`."""
    procedure: str | None = None
    """Name of the way in which it fills photos of other sizes than its own; None for classical methods, for files of
    other programs, and for versions registered before it was recorded."""
    trained: Mapping[str, Any] = field(default_factory=dict)
    """Of a network's training: `recipe`, `resize`, `size_px`; empty where they are unknown."""


def open_model(
    name: str, steps: ChallengeSteps = PLAIN, procedure: ProcedureName | None = None, device: str = "cpu"
) -> Model:
    """Model of a command-line name; raises UsageError or JobError where there is none.

    Only the network of a checkpoint takes `steps` other than the plain ones. `procedure`: a name of
    `nets.filling.PROCEDURES` in place of the model's own. `device`: where a network computes, see `choose_device`.
    """
    _refuse_unfit_options(name, steps, procedure)
    if name in METHODS:
        method = METHODS[name]
        return Model(_refuse_guides(method.fill), {"model": name, method.library: find_version(method.library)})
    if is_foreign(name):
        network = open_foreign_network(name, device)
        return Model(_refuse_guides(network.fill), {"model": network.name, "file_sha256": network.file_sha256})
    if name.startswith("models:/"):
        return _open_version(name, procedure, device)
    try:
        return make_network_model(open_checkpoint(name), steps, procedure, device)
    except UsageError as fault:
        others = f"{', '.join(METHODS)}, models:/NAME@champion, onnx:FILE and torchscript:FILE"
        raise UsageError(f"{fault}. Other models are {others}") from None


def is_fixed(name: str) -> bool:
    """Whether a model of this name fills in one way only: a classical method, or another program's file."""
    return name in METHODS or is_foreign(name)


def choose_device() -> str:
    """Name of the device: `cuda` where there is a GPU, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _refuse_unfit_options(name: str, steps: ChallengeSteps, procedure: ProcedureName | None) -> None:
    """Raise UsageError where the model of this name does not support the options."""
    if steps != PLAIN and (is_fixed(name) or name.startswith("models:/")):
        raise UsageError(f"{name} has no extra steps of a script: use the network of a checkpoint or run for these")
    if procedure is not None and is_fixed(name):
        raise UsageError(
            f"{name} has no procedure, {procedure!r} was given: leave --procedure out, or name a checkpoint or a run"
        )
    if procedure is not None and procedure not in PROCEDURES:
        raise UsageError(f"unknown procedure {procedure!r}: use one of {', '.join(PROCEDURES)}")


def make_network_model(
    checkpoint: Checkpoint, steps: ChallengeSteps = PLAIN, procedure: ProcedureName | None = None, device: str = "cpu"
) -> Model:
    """Model of a checkpoint's generator."""
    network = build_network(checkpoint.state["network"]).eval()
    network.load_state_dict(checkpoint.tensors(checkpoint.generator))
    identity = {"model": checkpoint.uri, "weights_sha256": checkpoint.file_sha256(checkpoint.generator)}
    used = checkpoint.procedure if procedure is None else replace(checkpoint.procedure, name=procedure)
    fill = make_network_filler(network.to(device), int(checkpoint.state["size_px"]), used, steps)
    return Model(fill, identity, list_optional_inputs(network), used.name, describe_training(checkpoint.state))


def describe_training(state: Mapping[str, Any]) -> dict[str, Any]:
    """Name, resize and size of the training that a checkpoint's description names; empty for bare networks."""
    recipe = state.get("recipe", {})
    if "stream" not in recipe:
        return {}
    return {"recipe": recipe["name"], "resize": recipe["stream"]["resize"], "size_px": state["size_px"]}


def make_network_filler(
    network: torch.nn.Module, size_px: int, procedure: Procedure = LOCAL, steps: ChallengeSteps = PLAIN
) -> Filler:
    """Filler of photos of any size by a network."""

    def fill(
        images: Pictures, masks: Pictures, guides: Mapping[str, Tensor] = NOTHING, noise: NoiseKeys | None = None
    ) -> Pictures:
        image, mask = (torch.from_numpy(np.ascontiguousarray(x)) for x in (images, masks))
        drawn = None if noise is None else make_keyed_noise(noise)
        return fill_levels(network, image, mask, size_px, procedure, steps, guides, drawn).numpy()

    return fill


def list_optional_inputs(network: Any) -> frozenset[str]:
    """Names of the network's inputs besides photo and mask."""
    planes = {name for name in ("sketch", "segmentation") if getattr(network.config, name, False)}
    return frozenset(planes | ({"noise"} if getattr(network, "probabilistic", False) else set()))


def _refuse_guides(fill: Callable[[Pictures, Pictures], Pictures]) -> Filler:
    """Filler by a function of photos and masks only; raises ValueError for further inputs."""

    def filler(
        images: Pictures, masks: Pictures, guides: Mapping[str, Tensor] = NOTHING, noise: NoiseKeys | None = None
    ) -> Pictures:
        if guides or noise is not None:
            raise ValueError(f"this model takes no {', '.join([*guides, *(() if noise is None else ('noise',))])}")
        return fill(images, masks)

    return filler


def _open_version(uri: str, procedure: ProcedureName | None, device: str) -> Model:
    from infra.tracking import Tracking

    tracking = Tracking(get_tracking_uri())
    version = tracking.find_version(uri)
    config = ({"procedure": procedure} if procedure else {}) | ({"device": device} if device != "cpu" else {})
    process = ModelProcess.from_version(version, tracking, config)
    about = process.metadata
    if procedure is not None and "procedure" not in about:
        process.close()
        raise UsageError(
            f"{version.uri} was registered without a procedure, {procedure!r} was given. Leave --procedure out, or "
            "register the checkpoint again"
        )
    used = procedure or about.get("procedure", {}).get("name")
    identity = {"model": version.uri, "weights_sha256": about["weights_sha256"]}
    return Model(process.fill, identity, frozenset(about.get("takes", ())), used, about.get("trained", {}))
