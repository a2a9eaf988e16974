"""What every generator must bear: compilation without a break, bfloat16, and recomputation instead of memory."""

from dataclasses import is_dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nets import build_network, describe_network
from nets.deepgin.network import DeepGIN, DeepGINConfig
from tests.nets.configs import CONFIGS
from tests.nets.objectives import inputs
from tests.sampling import sample_cases

COMPILED = ("deepgin", "spn", "spn-probabilistic", "spl", "mhtma", "distill-net8", "gc", "ec")
"""By every run of the slow tests."""
MULTIPLES = {"deepgin": 16, "mhtma": 4, "mhtma-contextual": 8, "spn": 4, "spn-one-scale": 4, "spn-probabilistic": 32,
             "spl": 4, "distill": 8, "gc": 8, "ec": 4, "pc": 8}  # fmt: skip
"""That heights and widths must be, as the docstrings say."""
NAMES = pytest.mark.parametrize("name", list(CONFIGS))


def generator(name: str) -> nn.Module:
    """The generator of a configuration, always with the same weights."""
    torch.manual_seed(0)
    return build_network(describe_network(CONFIGS[name].network))


def pictures() -> tuple[Tensor, Tensor]:
    step = inputs()
    return step.image, step.mask


@NAMES
def test_the_description_is_plain(name: str) -> None:
    assert not any(is_dataclass(value) for value in describe_network(CONFIGS[name].network)["config"].values())


@NAMES
@torch.no_grad()
def test_bfloat16_is_near_float32(name: str) -> None:
    network, (image, mask) = generator(name).eval(), pictures()
    exact = network(image, mask)["inpainted"]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(image, mask)["inpainted"]
    assert torch.isfinite(rounded).all()
    assert (rounded.float() - exact).abs().mean() <= 0.01 * exact.abs().max()  # one pixel of EC may see another edge


@NAMES
def test_it_goes_forward_and_backward_at_64(name: str) -> None:
    network, step = generator(name), inputs(size_px=64)
    outputs = network(step.image, step.mask)
    loss = outputs["predicted"].square().mean()
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    assert outputs["predicted"].shape == outputs["inpainted"].shape == step.image.shape
    assert all(bool(torch.isfinite(g).all()) for g in gradients if g is not None)
    assert any(bool(g.any()) for g in gradients if g is not None)


@pytest.mark.parametrize(("name", "multiple"), MULTIPLES.items())
@torch.no_grad()
def test_it_takes_sizes_that_it_can_halve_and_refuses_others(name: str, multiple: int) -> None:
    network = generator(name)
    image, mask = torch.rand(1, 3, 64, 64 + multiple), torch.zeros(1, 1, 64, 64 + multiple)
    mask[..., 20:40, 30:] = 1
    assert network(image, mask)["inpainted"].shape == image.shape
    for odd in (image[..., : 64 + multiple // 2], image[..., : 64 - multiple // 2, :]):
        height, width = odd.shape[2:]
        with pytest.raises(ValueError, match=f"pictures of {height}x{width} px: .* that {multiple} divides"):
            network(odd, mask[..., :height, :width])


@pytest.mark.parametrize("name", sample_cases(CONFIGS, COMPILED))
def test_it_compiles_without_a_break(name: str) -> None:
    network, (image, mask) = generator(name), pictures()
    compiled: Any = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.compiler.reset()
    outputs, plain = compiled(image, mask), network(image, mask)
    assert torch.allclose(outputs["inpainted"], plain["inpainted"], atol=1e-5)
    outputs["inpainted"].mean().backward()


class CountsSaved:
    """Bytes of the tensors that a block of code keeps for its backward pass."""

    def __init__(self) -> None:
        self.num_bytes = 0

    def pack(self, tensor: Tensor) -> Tensor:
        """Called with each."""
        self.num_bytes += tensor.numel() * tensor.element_size()
        return tensor


def saved_bytes(network: nn.Module) -> int:
    counts = CountsSaved()
    with torch.autograd.graph.saved_tensors_hooks(counts.pack, lambda tensor: tensor):
        network(*pictures())
    return counts.num_bytes


def test_checkpointing_saves_memory_and_changes_no_gradient() -> None:
    config = DeepGINConfig(8, 3, 2, initial_scale=1.0)
    torch.manual_seed(0)
    plain = DeepGIN(config)
    saving = DeepGIN(replace(config, checkpointing=True))
    saving.load_state_dict(plain.state_dict())
    gradients = [
        torch.autograd.grad(network(*pictures())["inpainted"].square().mean(), list(network.parameters()))
        for network in (plain, saving)
    ]
    assert all(torch.allclose(p, s, atol=1e-6) for p, s in zip(*gradients, strict=True))
    assert saved_bytes(saving) < saved_bytes(plain) - 3 * 2 * 64 * 4 * 4 * 4
