"""Networks as other programs load them: one trace for every size, on any device, equal to what we fill."""

import io
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from infra.settings import PROJECT_ROOT
from nets import NETWORKS, build_network, describe_network
from nets.exporting import Exported
from nets.filling import fill_levels
from pipelines.export.formats import Format, refuse_format, write_file
from pipelines.records import UsageError
from tests.nets.configs import CONFIGS

QUICK = ("deepgin", "distill-residual", "ec", "gc*", "mhtma", "pc", "spl", "spn-one-scale")
"""Each network once."""
SLOW = ("deepgin-segmentation", "distill", "gc-dagger", "mhtma-contextual", "mhtma-sketch", "spn", "spn-probabilistic")
"""Each further layer that looks at sizes, and each network that could be given more than a mask."""
IN_ONNX = ("pc", "distill-net1", "spl", "spn", "spn-one-scale", "spn-probabilistic")
SIZES = ((1, 64, 64), (2, 35, 150), (1, 1, 9))


def build_network_of(name: str) -> nn.Module:
    """A network whose layers all do something: the first weights of some are near 0."""
    torch.manual_seed(0)
    network = build_network(describe_network(CONFIGS[name].network)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


def make_pair(number: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Photos of noise; of an odd height, all but a corner is hole."""
    mask = torch.zeros(number, 1, height, width)
    mask[..., height // 4 : height // 2 + 1, width // 3 :] = 1
    if height > 1 and height % 2:
        mask[:] = 1
        mask[..., : height // 8, : width // 8] = 0
    return torch.rand(number, 3, height, width), mask


def load(data: bytes, form: Format) -> Callable[[Tensor, Tensor], Tensor]:
    if form == "torchscript":
        module: Callable[[Tensor, Tensor], Tensor] = torch.jit.load(io.BytesIO(data))  # type: ignore[no-untyped-call]
        return module
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda image, mask: torch.from_numpy(session.run(None, {"image": image.numpy(), "mask": mask.numpy()})[0])


def assert_fills_as(network: nn.Module, run: Callable[[Tensor, Tensor], Tensor]) -> None:
    reference = Exported(network)
    for size in SIZES:
        image, mask = make_pair(*size)
        filled = run(image, mask)
        assert (filled - reference(image, mask)).abs().max() < 1e-4
        assert not torch.equal(filled, image)


def assert_keeps_no_device(traced: Any) -> None:
    graph = traced.inlined_graph
    constants = [node.output() for node in graph.findAllNodes("prim::Constant")]
    tensors = [value.toIValue() for value in constants if value.type().kind() == "TensorType"]
    assert not any(value.type().kind() == "DeviceObjType" for value in constants)
    assert not any(isinstance(value, Tensor) and value.dim() for value in tensors)  # `.to` moves none of them


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
@torch.no_grad()
def test_torchscript_fills_any_size_on_any_device_as_the_network_does(name: str) -> None:
    network = build_network_of(name)
    traced = load(write_file(network, {}, "torchscript"), "torchscript")
    assert_fills_as(network, traced)
    assert_keeps_no_device(traced)


@pytest.mark.parametrize("name", ["deepgin", *(pytest.param(name, marks=pytest.mark.slow) for name in IN_ONNX)])
@torch.no_grad()
def test_onnx_fills_any_size_as_the_network_does(name: str) -> None:
    network = build_network_of(name)
    assert_fills_as(network, load(write_file(network, {}, "onnx"), "onnx"))


@pytest.mark.slow
@torch.no_grad()
def test_onnx_fills_from_a_nearly_harmonic_start_too() -> None:
    torch.manual_seed(0)
    config = replace(CONFIGS["deepgin"].network, residual=True, smoothing_sweeps=2)
    network = build_network(describe_network(config)).eval()
    assert_fills_as(network, load(write_file(network, {}, "onnx"), "onnx"))


def test_every_network_is_among_them() -> None:
    assert {describe_network(CONFIGS[name].network)["name"] for name in (*QUICK, *SLOW)} == set(NETWORKS)


@pytest.mark.parametrize("name", ["deepgin", "distill-residual", "mhtma", "spl"])
@torch.no_grad()
def test_at_the_networks_own_size_it_is_our_fill(name: str) -> None:
    network, (image, mask) = build_network_of(name), make_pair(2, 64, 64)
    levels = (image * 255).byte()
    ours = fill_levels(network, levels.permute(0, 2, 3, 1), mask[:, 0].byte(), 64)
    filled = Exported(network)(levels.float() / 255, mask)
    assert torch.equal((filled * 255).round().byte(), ours.permute(0, 3, 1, 2))


@cache
def load_exported() -> Callable[[Tensor, Tensor], Tensor]:
    """Load a file that is written once for all examples."""
    return load(write_file(build_network_of("pc"), {}, "torchscript"), "torchscript")


@settings(max_examples=15)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 2), st.integers(0, 2**16))
@torch.no_grad()
def test_known_pixels_come_back_as_given_and_the_rest_is_in_range(
    height: int, width: int, number: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    image = torch.rand(number, 3, height, width, generator=random)
    mask = (torch.rand(number, 1, height, width, generator=random) < 0.5).long()  # IOPaint's masks are integers
    run = load_exported()
    filled = run(image, mask)
    hole = mask.bool().expand_as(image)
    assert torch.equal(filled[~hole], image[~hole])
    assert filled.min() >= 0
    assert filled.max() <= 1
    assert torch.equal(filled, run(torch.where(hole, torch.rand_like(image), image), mask))  # the hole is not read


@pytest.mark.parametrize(
    ("name", "layer"),
    [("distill", "AdaptiveConvolution"), ("mhtma", "TemperatureAttention"), ("mhtma-contextual", "ContextualAttention"),
     ("ec", "InstanceNorm2d"), ("gc", "ContextualAttention")],
)  # fmt: skip
def test_a_network_without_an_onnx_file_is_refused_with_its_layer(name: str, layer: str) -> None:
    with pytest.raises(UsageError, match=rf"no ONNX file .* {layer}\. Use --format torchscript"):
        refuse_format(build_network_of(name), "onnx")
    refuse_format(build_network_of(name), "torchscript")


@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_a_file_holds_no_path_of_this_machine(form: Format) -> None:
    data = write_file(build_network_of("pc"), {}, form)
    assert str(PROJECT_ROOT).encode() not in data
    assert b"site-packages" not in data
