"""Files of other programs as models: what `lacuna export` writes fills as the network, and the rest is refused."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from jobs.export import Arguments, run
from nets import build_network
from nets.filling import NonFiniteFillError
from pipelines.checkpoints import save_checkpoint
from pipelines.evaluation.models import Pictures, open_model
from pipelines.export.formats import Format
from pipelines.records import JobError, UsageError, sha256_hex
from tests.making import photo

NETWORK = {"name": "pc", "config": {"widths": (4, 8, 8), "kernels": (5, 3, 3), "residual": True}}
HOLE = (slice(9, 20), slice(11, 25))


def pictures(count: int = 2, height: int = 40, width: int = 50) -> tuple[Pictures, Pictures]:
    masks = np.zeros((count, height, width), np.uint8)
    masks[:, *HOLE] = 1
    return np.stack([np.asarray(photo(n, height, width)) for n in range(count)]), masks


def write_onnx(path: Path, inputs: list[tuple[str, int, list[Any]]], nodes: list[Any], output: int) -> Path:
    """An ONNX file of these inputs, whose output is `out` N3HW."""
    values = [helper.make_tensor_value_info(*entry) for entry in inputs]
    out = helper.make_tensor_value_info("out", output, ["n", 3, "h", "w"])
    model = helper.make_model(
        helper.make_graph(nodes, "graph", values, [out]), opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    path.write_bytes(model.SerializeToString())
    return path


def write_levels(path: Path) -> Path:
    """A file of the form of MI-GAN's pipeline, whose fill is its own mask: 0 in the hole, 255 around it."""
    kinds: list[tuple[str, int, list[Any]]] = [
        ("mask", TensorProto.UINT8, ["n", 1, "h", "w"]),
        ("image", TensorProto.UINT8, ["n", 3, "h", "w"]),
    ]
    nodes = [
        helper.make_node("Max", ["image", "mask"], ["most"]),
        helper.make_node("Min", ["most", "mask"], ["out"]),
    ]
    return write_onnx(path, kinds, nodes, TensorProto.UINT8)


@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_an_exported_file_fills_as_its_network(tmp_path: Path, form: Format) -> None:
    torch.manual_seed(0)
    facts = {"images_seen": 4, "network": NETWORK, "size_px": 32, "recipe": {"name": "tiny"}, "run_id": "a1b2"}
    save_checkpoint(str(tmp_path / "run"), {"generator": build_network(NETWORK).state_dict()}, facts)
    file = tmp_path / "file"
    run(Arguments(str(tmp_path / "run"), form, str(file)))
    model, (images, masks) = open_model(f"{form}:{file}"), pictures()
    assert model.identity == {"model": f"{form}:{file}", "file_sha256": sha256_hex(file.read_bytes())}
    filled = model.fill(images, masks)
    assert np.array_equal(filled[masks == 0], images[masks == 0])
    whole = open_model(str(tmp_path / "run"), procedure="whole").fill(images, masks)
    assert np.abs(filled.astype(int) - whole).max() <= 1
    assert np.array_equal(filled, model.fill(np.where(masks[..., None] > 0, 255 - images, images), masks))
    assert np.array_equal(filled[1:], model.fill(images[1:], masks[1:]))


def test_the_form_of_levels_gets_255_for_known(tmp_path: Path) -> None:
    images, masks = pictures()
    masks[1] = 0
    filled = open_model(f"onnx:{write_levels(tmp_path / 'file.onnx')}").fill(images, masks)
    assert (filled[masks == 1] == 0).all()
    assert np.array_equal(filled[masks == 0], images[masks == 0])


def test_the_form_of_levels_sees_colors_from_around_the_hole(tmp_path: Path) -> None:
    kinds: list[Any] = [
        ("image", TensorProto.UINT8, ["n", 3, "h", "w"]),
        ("mask", TensorProto.UINT8, ["n", 1, "h", "w"]),
    ]
    file = write_onnx(
        tmp_path / "file.onnx", kinds, [helper.make_node("Identity", ["image"], ["out"])], TensorProto.UINT8
    )
    images, masks = np.full((1, 40, 50, 3), 90, np.uint8), pictures(1)[1]
    images[masks == 1] = 255
    assert (open_model(f"onnx:{file}").fill(images, masks) == 90).all()


FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([("x", FLOAT, ["n", 4, "h", "w"])], r"takes x float32 \['n', 4, 'h', 'w'\]: what is understood is image"),
        ([("a", UINT8, ["n", 3, "h", "w"]), ("b", FLOAT, ["n", 1, "h", "w"])], "takes a uint8 .*, b float32 .*MI-GAN"),
        ([("a", FLOAT, ["n", 3, "h", "w"]), ("b", FLOAT, ["n", 3, "h", "w"])], "what is understood"),
        (
            [("a", FLOAT, ["n", 3, 512, 512]), ("b", FLOAT, ["n", 1, 512, 512])],
            r"512, 512\], pictures of one size only",
        ),
        ([("a", TensorProto.DOUBLE, ["n", 3, "h", "w"]), ("b", TensorProto.DOUBLE, ["n", 1, "h", "w"])], "understood"),
    ],
)
def test_other_inputs_are_refused_by_name(tmp_path: Path, inputs: list[Any], words: str) -> None:
    nodes = [helper.make_node("Identity", [inputs[0][0]], ["out"])]
    with pytest.raises(UsageError, match=words):
        open_model(f"onnx:{write_onnx(tmp_path / 'file.onnx', inputs, nodes, inputs[0][1])}")


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_what_is_no_such_file_is_refused(tmp_path: Path, form: str) -> None:
    (tmp_path / "text").write_text("not a network")
    with pytest.raises(UsageError, match=rf"^{form}:.*/text is no (ONNX|TorchScript) file that"):
        open_model(f"{form}:{tmp_path / 'text'}")
    with pytest.raises(UsageError, match=rf"^{form}:.*/nothing cannot be read: no file at"):
        open_model(f"{form}:{tmp_path / 'nothing'}")
    with pytest.raises(UsageError, match=f"{form}: names no file"):
        open_model(f"{form}:")
    with pytest.raises(UsageError, match="has no procedure"):
        open_model(f"{form}:{tmp_path / 'text'}", procedure="local")


def test_a_missing_runtime_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_levels(tmp_path / "file.onnx")
    monkeypatch.setattr("pipelines.evaluation.foreign_networks.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"needs the package onnxruntime: run pip install 'lacuna\[export\]'"):
        open_model(f"onnx:{file}")


class Painter(nn.Module):
    """Fills with one value, and cuts rows off."""

    def __init__(self, value: float, cut: int = 0) -> None:
        super().__init__()
        self.value, self.cut = value, cut

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        filled = image * (1 - mask) + self.value * mask
        return filled[:, :, self.cut :]


def write_script(path: Path, module: nn.Module) -> str:
    sink = io.BytesIO()
    torch.jit.save(torch.jit.script(module), sink)
    path.write_bytes(sink.getvalue())
    return f"torchscript:{path}"


def test_values_out_of_range_are_clamped_and_no_numbers_are_an_error(tmp_path: Path) -> None:
    images, masks = pictures()
    for value, level in ((0.2, 51), (7.0, 255), (-1.0, 0)):
        filled = open_model(write_script(tmp_path / "file.pt", Painter(value))).fill(images, masks)
        assert (filled[masks == 1] == level).all()
    with pytest.raises(NonFiniteFillError, match="picture 1 of 2"):
        open_model(write_script(tmp_path / "file.pt", Painter(float("nan")))).fill(images, masks)


def test_a_fill_of_another_size_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"file\.pt gives 1x3x38x50 for a photo of 50x40 px: it must give 1x3x40x50"):
        open_model(write_script(tmp_path / "file.pt", Painter(0.5, 2))).fill(*pictures())


def test_a_script_of_other_arguments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"takes input Tensor: what is understood of TorchScript is image float32"):
        open_model(write_script(tmp_path / "file.pt", nn.ReLU()))


def test_a_file_that_fails_at_work_is_named(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "file.onnx")
    model = onnx.load(path)
    model.graph.node.insert(0, helper.make_node("Reshape", ["image", "shape"], ["unused"]))
    model.graph.initializer.append(helper.make_tensor("shape", TensorProto.INT64, [1], [7]))
    model.graph.node[1].input[0] = "unused"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(JobError, match=r"file\.onnx does not run on a photo of 50x40 px: "):
        open_model(f"onnx:{path}").fill(*pictures())
