"""Networks in files of other programs, ONNX or TorchScript, that fill photos of any size.

In: `onnx:FILE` or `torchscript:FILE`, FILE a path or a URI. Out: a function of uint8 NHWC images and uint8 NHW masks in
{0, 1}. What a file takes is read from its inputs; hole pixels alone are taken from its fills. Photos go through it one
at a time in one thread, so the batch does not matter. A TorchScript file is code of its author: open no file whose
author you do not trust.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from infra import storage
from nets.filling import NonFiniteFillError
from nets.layers.smooth import fill_smoothly
from pipelines.records import JobError, UsageError, sha256_hex

Levels = NDArray[np.uint8]
Array = NDArray[Any]
Run = Callable[[Array, Array], Array]
"""Image 13HW and mask 11HW of a photo, as the file takes them -> 13HW as it gives them."""

_UNDERSTOOD: Final = (
    "image float32 N3HW in [0, 1] with mask float32 N1HW (1 = hole), as `lacuna export` writes, "
    "or image uint8 N3HW with mask uint8 N1HW (255 = known), as MI-GAN's pipeline"
)
_ONNX_TYPES: Final = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}


@dataclass(frozen=True)
class ForeignNetwork:
    """Network of a file."""

    name: str
    """`onnx:` or `torchscript:` with the file's absolute URI."""
    file_sha256: str
    run: Run
    dtype: str
    """`float32` or `uint8`: which of the two forms of input it takes."""

    def fill(self, images: Levels, masks: Levels) -> Levels:
        """Filled images; raises JobError where the file fails, NonFiniteFillError where its fill is not finite."""
        filled = [
            self._fill_photo(*pair, number, len(images)) for number, pair in enumerate(zip(images, masks, strict=True))
        ]
        return np.stack(filled)

    def _fill_photo(self, image: Levels, mask: Levels, number: int, count: int) -> Levels:
        if not mask.any():
            return image.copy()
        hole = mask > 0
        shown = np.ascontiguousarray(np.where(hole[..., None], np.uint8(0), image).transpose(2, 0, 1)[None])
        given = self._run(*_to_inputs(shown, hole[None, None], self.dtype))
        if not np.isfinite(given[0, :, hole]).all():
            raise NonFiniteFillError(number, count)
        scale = 255 if self.dtype == "float32" else 1
        levels = np.rint(given[0].transpose(1, 2, 0).astype(np.float32) * scale).clip(0, 255).astype(np.uint8)
        return np.where(hole[..., None], levels, image)

    def _run(self, image: Array, mask: Array) -> Array:
        """Fill of one photo; raises JobError where the file fails or gives another shape."""
        height, width = mask.shape[2:]
        try:
            given = self.run(image, mask)
        except Exception as fault:  # noqa: BLE001 - the runtimes and the file's own code may raise anything
            last = (str(fault).strip().splitlines() or [type(fault).__name__])[-1]
            raise JobError(f"{self.name} does not run on a photo of {width}x{height} px: {last}") from None
        if given.shape != image.shape:
            raise JobError(
                f"{self.name} gives {_format_shape(given.shape)} for a photo of {width}x{height} px: it must give "
                f"{_format_shape(image.shape)}"
            )
        return given


def is_foreign(name: str) -> bool:
    """Whether a model's name is that of a file of another program."""
    return name.partition(":")[0] in _FORMATS and ":" in name


def open_foreign_network(name: str, device: str = "cpu") -> ForeignNetwork:
    """Network of `onnx:FILE` or `torchscript:FILE`; TorchScript computes on `device`, ONNX on the CPU.

    Raises UsageError for a file that cannot be read, and for inputs that are not understood.
    """
    form, _, uri = name.partition(":")
    if not uri:
        raise UsageError(f"{name} names no file: write {form}:FILE, a path or a URI")
    if form == "onnx" and find_spec("onnxruntime") is None:
        raise UsageError(f"{name} needs the package onnxruntime: run pip install 'lacuna[export]'")
    try:
        data = storage.read_bytes(uri)
    except OSError as fault:
        raise UsageError(f"{name} cannot be read: {fault.strerror or fault}. Name a file or a URI") from None
    run, dtype = _FORMATS[form](data, name, device)
    return ForeignNetwork(f"{form}:{storage.to_absolute(uri)}", sha256_hex(data), run, dtype)


def _to_inputs(image: Levels, hole: NDArray[np.bool_], dtype: str) -> tuple[Array, Array]:
    """Inputs of one of the two forms, from an image 13HW that is 0 in its hole: image 13HW and mask 11HW."""
    if dtype == "uint8":
        return _paint_hole(image, hole), np.where(hole, np.uint8(0), np.uint8(255))
    return image.astype(np.float32) / 255, hole.astype(np.float32)


def _paint_hole(image: Levels, hole: NDArray[np.bool_]) -> Levels:
    """Image with colors from around the hole spread into it: MI-GAN's pipeline resizes and blends hole pixels, too.

    With black there its fills have black edges, with the photo's own pixels they would have these at their edges.
    """
    filled = fill_smoothly(torch.from_numpy(image).float(), torch.from_numpy(hole).float(), num_sweeps=4)
    return np.asarray(filled.round().clamp(0, 255).byte().numpy())


def _open_onnx(data: bytes, name: str, _: str) -> tuple[Run, str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; warnings of its optimizer are no one's concern here
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as fault:  # noqa: BLE001 - its errors have no common class
        raise UsageError(f"{name} is no ONNX file that onnxruntime loads: {str(fault).strip()[:200]}") from None
    dtype = _find_onnx_form(session, name)
    image, mask = _sort_by_channels(session)

    def run(pixels: Array, hole: Array) -> Array:
        return np.asarray(session.run([session.get_outputs()[0].name], {image: pixels, mask: hole})[0])

    return run, dtype


def _find_onnx_form(session: Any, name: str) -> str:
    """`float32` or `uint8`; raises UsageError where the inputs are of neither form, or of one size only."""
    inputs = session.get_inputs()
    shapes = sorted((entry.shape for entry in inputs), key=lambda shape: str(shape[1:2]), reverse=True)
    types = {_ONNX_TYPES.get(entry.type) for entry in inputs}
    listed = ", ".join(f"{entry.name} {_ONNX_TYPES.get(entry.type, entry.type)} {entry.shape}" for entry in inputs)
    are_planes = len(shapes) == 2 and all(len(shape) == 4 for shape in shapes) and [s[1] for s in shapes] == [3, 1]
    if not are_planes or len(types) != 1 or types == {None}:
        raise UsageError(f"{name} takes {listed}: what is understood is {_UNDERSTOOD}")
    if any(isinstance(length, int) for shape in shapes for length in shape[2:]):
        raise UsageError(f"{name} takes {listed}, pictures of one size only: export it with height and width that vary")
    return str(types.pop())


def _sort_by_channels(session: Any) -> tuple[str, str]:
    """Names of the inputs for image and mask."""
    image, mask = sorted(session.get_inputs(), key=lambda entry: -int(entry.shape[1]))
    return str(image.name), str(mask.name)


def _open_torchscript(data: bytes, name: str, device: str) -> tuple[Run, str]:
    try:
        module: Any = torch.jit.load(io.BytesIO(data), map_location=device).eval()  # type: ignore[no-untyped-call]
    except RuntimeError as fault:
        last = str(fault).strip().splitlines()[-1]
        raise UsageError(f"{name} is no TorchScript file that torch loads: {last[:200]}") from None
    arguments = [f"{entry.name} {entry.type}" for entry in module.forward.schema.arguments[1:]]
    if [entry.rpartition(" ")[2] for entry in arguments] != ["Tensor", "Tensor"]:
        raise UsageError(
            f"{name} takes {', '.join(arguments) or 'nothing'}: what is understood of TorchScript is image "
            "float32 N3HW in [0, 1] and mask float32 N1HW (1 = hole), as `lacuna export` writes"
        )

    def run(pixels: Array, hole: Array) -> Array:
        with torch.inference_mode():
            filled = module(torch.from_numpy(pixels).to(device), torch.from_numpy(hole).to(device))
        return np.asarray(filled.cpu().numpy())

    return run, "float32"


def _format_shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


_FORMATS: Final[Mapping[str, Callable[[bytes, str, str], tuple[Run, str]]]] = {
    "onnx": _open_onnx,
    "torchscript": _open_torchscript,
}
