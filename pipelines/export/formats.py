"""Files that other programs load: TorchScript and ONNX, made from one trace of the network.

In: a network and facts. Out: the bytes of a file that holds both, without paths of this machine; a fresh process makes
the same bytes each time. The size of the trace does not matter: `nets.exporting` says why.
"""

import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from nets.baselines.gated import ContextualAttention as PooledContextualAttention
from nets.exporting import Exported
from nets.layers.adaptive import AdaptiveConvolution
from nets.mhtma.attention import TemperatureAttention
from nets.mhtma.contextual import ContextualAttention
from pipelines.records import UsageError, canonical_json

Format = Literal["torchscript", "onnx"]
FACTS_FILE: Final = "lacuna.json"
"""Extra file of a TorchScript archive that holds the facts."""
_ONNX_PACKAGES: Final = ("onnx", "onnxruntime")
_OPSET: Final = 18
_WITHOUT_ONNX: Final = (
    AdaptiveConvolution,
    ContextualAttention,
    PooledContextualAttention,
    TemperatureAttention,
    nn.InstanceNorm2d,
)
"""Layers that torch turns into ONNX operators for one size only, or not at all."""
_TRACED_PX: Final = (48, 80)


def refuse_missing_packages(form: Format) -> None:
    """Raise UsageError where the packages of ONNX are not installed."""
    missing = [name for name in _ONNX_PACKAGES if form == "onnx" and find_spec(name) is None]
    if missing:
        raise UsageError(f"--format onnx needs the package {missing[0]}: run pip install 'lacuna[export]'")


def refuse_format(network: nn.Module, form: Format) -> None:
    """Raise UsageError where a network has no file of this format."""
    found = {type(layer).__name__ for layer in network.modules() if isinstance(layer, _WITHOUT_ONNX)}
    if form == "onnx" and found:
        raise UsageError(
            f"{type(network).__name__} has no ONNX file for photos of any size, because of its layers "
            f"{', '.join(sorted(found))}. Use --format torchscript"
        )


def write_file(network: nn.Module, facts: Mapping[str, str], form: Format) -> bytes:
    """Bytes of the network's file with its facts."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constants in the trace, which the trial looks for, and deprecations of torch
        example = torch.rand(2, 3, *_TRACED_PX), torch.ones(2, 1, *_TRACED_PX)
        write = {"torchscript": _write_torchscript, "onnx": _write_onnx}[form]
        return write(Exported(network), example, facts)


def _write_torchscript(module: Exported, example: tuple[Tensor, Tensor], facts: Mapping[str, str]) -> bytes:
    sink = io.BytesIO()
    traced: Any = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, sink, _extra_files={FACTS_FILE: canonical_json(dict(facts))})
    return _drop_source_paths(sink)


def _drop_source_paths(archive: io.BytesIO) -> bytes:
    """Bytes of the archive without its `debug_pkl` files, which hold the paths of the source on this machine."""
    sink = io.BytesIO()
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(sink, "w") as target:
        for name in source.namelist():
            if not name.endswith(".debug_pkl"):
                target.writestr(zipfile.ZipInfo(name), source.read(name))
    return sink.getvalue()


def _write_onnx(module: Exported, example: tuple[Tensor, Tensor], facts: Mapping[str, str]) -> bytes:
    import onnx

    sink: Any = io.BytesIO()
    torch.onnx.export(
        module,
        example,
        sink,
        dynamo=False,  # its successor unrolls loops whose length depends on the size
        opset_version=_OPSET,
        input_names=["image", "mask"],
        output_names=["filled"],
        dynamic_axes={name: {0: "N", 2: "H", 3: "W"} for name in ("image", "mask", "filled")},
    )
    model = onnx.load_from_string(sink.getvalue())
    onnx.helper.set_model_props(model, dict(facts))
    return bytes(model.SerializeToString(deterministic=True))


def read_facts(data: bytes) -> dict[str, str] | None:
    """Facts of an exported file, None for any other file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{FACTS_FILE}")]
            found: dict[str, str] | None = json.loads(archive.read(names[0])) if names else None
            return found
    except zipfile.BadZipFile:
        return _read_onnx_facts(data) if find_spec("onnx") else None


def _read_onnx_facts(data: bytes) -> dict[str, str] | None:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        properties = onnx.load_from_string(data).metadata_props
    except DecodeError:
        return None
    facts = {entry.key: entry.value for entry in properties}
    return facts if "weights_sha256" in facts else None
