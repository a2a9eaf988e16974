"""Published checkpoints of SPN: every tensor finds its place by name or by a shape of its own, or none is loaded."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nets.spn.critics import MatchingCritic, PatchCritic
from nets.spn.network import SPL, SPN, SPLConfig, SPNConfig
from nets.spn.prior import DistillationHeads
from nets.spn.published import load_published, map_generator_keys, read_published, split_published
from nets.spn.teacher import load_published_trunk
from tests.weights import random_network, random_tresnet

State = dict[str, Tensor]
TINY = SPNConfig(width=4, spade_width=4, num_spade_blocks=1, num_dense_blocks=1, num_dense_layers=1, growth=4)


def with_heads(config: SPNConfig | SPLConfig) -> nn.ModuleDict:
    """What the published generator holds."""
    network = SPN(config) if isinstance(config, SPNConfig) else SPL(config)
    channels = (152, 76, 76) if isinstance(config, SPNConfig) else (152,)
    return nn.ModuleDict({"generator": network, "heads": DistillationHeads(config.width, channels)})


def renamed(state: State) -> tuple[State, dict[str, str]]:
    """The state under other names, as if by other hands, and the map of keys back to ours."""
    names = {key.rpartition(".")[0] for key in state}
    numbers = {name: f"layer{number}" for number, name in enumerate(sorted(names))}
    published = {f"{numbers[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": t for k, t in state.items()}
    return published, {number: name for name, number in numbers.items()}


def test_a_checkpoint_is_split_by_its_prefixes_and_unwrapped() -> None:
    one, two, three = torch.zeros(1), torch.ones(1), torch.full((1,), 2.0)
    published = {"generator.module.a.weight": one, "discriminator.b": two, "tresnet_xL_hold.body.conv1.0.weight": three}
    parts = split_published(published)
    assert {name: list(part) for name, part in parts.items()} == {
        "generator": ["a.weight"],
        "critic": ["b"],
        "target": ["body.conv1.0.weight"],
    }
    assert parts["generator"]["a.weight"] is one


def test_a_key_of_no_network_is_named() -> None:
    with pytest.raises(ValueError, match=r"'optimizer.a' is of no known network: keys begin with generator\., "):
        split_published({"optimizer.a": torch.zeros(1)})


def test_the_target_of_a_checkpoint_is_the_trunk() -> None:
    published = {f"tresnet_xL_hold.module.{k}": t for k, t in random_tresnet().items() if k.startswith("body.")}
    trunk = load_published_trunk(split_published(published)["target"])
    assert torch.equal(trunk.conv1[0].weight, random_tresnet()["body.conv1.0.weight"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "config", [TINY, SPNConfig(**vars(TINY) | {"probabilistic": True}), SPLConfig(4, 4, 1, 1, 1, 4)]
)
def test_with_a_map_of_keys_every_tensor_comes_to_its_place(config: SPNConfig | SPLConfig) -> None:
    network = with_heads(config)
    state = random_network(network, seed=3)
    published, keys = renamed(state)
    load_published(network, published, keys)
    assert all(torch.equal(t, state[k]) for k, t in network.state_dict().items())


def test_a_full_sized_published_state_is_taken_and_has_the_papers_number_of_tensors() -> None:
    with torch.device("meta"):
        network = with_heads(SPNConfig())
        published, keys = renamed(dict(network.state_dict()))
        split = split_published({f"generator.module.{k}": t for k, t in published.items()})
        load_published(network, split["generator"], keys)
    assert sum(t.numel() for t in published.values()) == 50_702_643


def test_a_prefix_maps_all_that_lies_below_it_and_the_longest_counts() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3))
    state = random_network(network)
    published = {"net.a.weight": state["0.weight"], "net.a.bias": state["0.bias"]}
    published |= {"net.b.weight": state["1.weight"], "net.b.bias": state["1.bias"]}
    load_published(network, published, {"net.a": "0", "net.b": "1", "net": "2"})
    assert all(torch.equal(t, state[k]) for k, t in network.state_dict().items())


def test_a_tensor_whose_shape_no_other_has_needs_no_name() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 5, 3))
    state = random_network(network)
    load_published(network, {f"x{k}"[::-1]: t for k, t in state.items()}, {})
    assert all(torch.equal(t, state[k]) for k, t in network.state_dict().items())


@pytest.mark.parametrize("config", [TINY, SPLConfig(4, 4, 1, 1, 1, 4)])
def test_what_shapes_do_not_tell_apart_is_refused_and_nothing_is_loaded(config: SPNConfig | SPLConfig) -> None:
    network = with_heads(config)
    before = {k: t.clone() for k, t in network.state_dict().items()}
    with pytest.raises(ValueError, match="say in the map of keys which is which"):
        load_published(network, renamed(random_network(network))[0], {})
    assert all(torch.equal(t, before[k]) for k, t in network.state_dict().items())


def test_every_candidate_of_an_ambiguous_shape_is_listed() -> None:
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    published = {"gamma": torch.ones(2, 2), "beta": torch.zeros(2, 2)}
    words = r"of shape \(2, 2\) the published state has 'gamma', 'beta', the network '0.weight', '1.weight': say"
    with pytest.raises(ValueError, match=words):
        load_published(network, published, {})
    load_published(network, published, {"gamma": "1.weight"})  # one name leaves one of each
    assert torch.equal(network.state_dict()["0.weight"], torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("published", "keys", "words"),
    [
        ({}, {}, r"the published state has none, the network '(weight|bias)'"),
        ({"w": torch.ones(2, 2), "b": torch.ones(2), "c": torch.ones(9)}, {}, r"has 'c', the network none"),
        ({"w": torch.ones(2, 2), "b": torch.ones(2)}, {"w": "wait"}, "'w' is mapped to 'wait', which is not there"),
        (
            {"w": torch.ones(2, 2), "v": torch.ones(2, 2)},
            {"w": "weight", "v": "weight"},
            "'v' is mapped to 'weight', which another key is mapped to as well",
        ),
        (
            {"w": torch.ones(2, 3)},
            {"w": "weight"},
            r"'w' has the shape \(2, 3\), 'weight' has \(2, 2\): correct the map",
        ),
    ],
)
def test_what_does_not_fit_is_said(published: State, keys: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_published(nn.Linear(2, 2), published, keys)


def test_a_critic_with_the_spectral_norm_of_old_is_mapped_by_name() -> None:
    critic = PatchCritic(4)
    state = random_network(critic)
    old = {"original": "weight_orig", "_u": "weight_u", "_v": "weight_v"}
    published, keys = {}, {}
    for key, tensor in state.items():
        number, part = key.split(".")[1], key.rpartition(".")[2]
        theirs = f"conv{number}.0.{old['original' if part.startswith('original') else part]}"
        published[theirs], keys[theirs] = tensor, key
    load_published(critic, published, keys)
    assert all(torch.equal(t, state[k]) for k, t in critic.state_dict().items())


KINDS: dict[str, tuple[SPNConfig | SPLConfig, type[PatchCritic | MatchingCritic], int, str]] = {
    "deterministic": (
        SPNConfig(),
        PatchCritic,
        472,
        "e24e058f25066fe5c5b5ef14163a92d0a5b4c0f8ad2457233f770787cd98ec10",
    ),
    "probabilistic": (
        SPNConfig(probabilistic=True),
        MatchingCritic,
        490,
        "3f0ae9c88a26d242da778fb523a27f2c79e14ee145e27b2ec73df8c785cfc6a3",
    ),
    "spl": (SPLConfig(), PatchCritic, 418, "70c0fe563d12b13933292794b9d2edc910ba40aba578433759f90af89635f5a0"),
}
"""What is published, how many tensors the authors' generator has, and the digest of all names in such a file."""
_THEIRS = {"original": "weight_orig", "_u": "weight_u", "_v": "weight_v"}


def published_file(config: SPNConfig | SPLConfig, critic: nn.Module, seed: int = 5) -> tuple[State, State, State]:
    """A checkpoint as the authors' code writes one, with random numbers; what of it is ours, generator and critic."""
    back = {ours: theirs for theirs, ours in map_generator_keys(config).items()}
    generator = random_network(with_heads(config), seed)
    judge = {k: torch.rand_like(t) for k, t in critic.state_dict().items()}
    file: State = {}
    for key, tensor in generator.items():
        prefix = max((p for p in back if key == p or key.startswith(f"{p}.")), key=len)
        is_region = ".encoder.norms." in key
        file[f"generator.module.{back[prefix]}{key[len(prefix) :]}"] = tensor.flatten() if is_region else tensor
    for key, tensor in judge.items():
        number, part = int(key.split(".")[1]) + 1, key.rpartition(".")[2]
        file[f"discriminator.module.conv{number}.0.{_THEIRS.get(part, part)}"] = tensor
    if isinstance(critic, PatchCritic):
        twice = {key: tensor for key, tensor in file.items() if key.startswith("discriminator.module.conv1.0.")}
        file |= {key.replace("conv1.0", "features.0"): tensor.clone() for key, tensor in twice.items()}
    file |= {f"adversarial_loss.{which}_label": torch.tensor(0.0) for which in ("real", "fake")}
    if isinstance(critic, MatchingCritic):
        slices = {1: (0,), 2: (2, 5), 3: (7, 10), 4: (12, 14, 16, 19), 5: (21, 23, 25, 28)}
        places = [f"vgg_loss.vgg.slice{number}.{layer}" for number, layers in slices.items() for layer in layers]
        file |= {f"{place}.{part}": torch.zeros(2) for place in places for part in ("weight", "bias")}
    return file, generator, judge


@pytest.mark.parametrize("kind", KINDS)
def test_the_names_of_a_published_file_are_the_authors(kind: str) -> None:
    config, critic, num_tensors, digest = KINDS[kind]
    with torch.device("meta"):
        names = {key: tensor.shape for key, tensor in published_file(config, critic())[0].items()}
    assert sum(name.startswith("generator.") for name in names) == num_tensors
    assert sha256("\n".join(sorted(names)).encode()).hexdigest() == digest
    assert sum(len(shape) == 1 for name, shape in names.items() if ".encoder_in" in name) == 12


def test_the_page_says_how_many_names_there_are() -> None:
    with torch.device("meta"):
        counts = [len(published_file(config, critic())[0]) for config, critic, *_ in KINDS.values()]
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    assert "all {}, {} and {} names".format(*counts) in page


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_published_file_comes_into_generator_heads_and_critic(kind: str) -> None:
    config, critic, *_ = KINDS[kind]
    small = replace(config, width=8, spade_width=8, num_spade_blocks=2, num_dense_blocks=2, growth=4)
    file, generator, judge = published_file(small, critic())
    networks = read_published(file, small)
    assert set(networks) == {"generator", "heads", "critic"}
    for name in ("generator", "heads"):
        state = networks[name].state_dict()
        assert all(torch.equal(tensor, generator[f"{name}.{key}"]) for key, tensor in state.items())
    assert all(torch.equal(tensor, judge[key]) for key, tensor in networks["critic"].state_dict().items())
    image, mask = torch.rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
    assert networks["generator"](image, mask)["predicted"].isfinite().all()


def test_a_file_without_critic_gives_none() -> None:
    file, _, _ = published_file(TINY, PatchCritic())
    alone = {key: tensor for key, tensor in file.items() if key.startswith("generator.")}
    assert set(read_published(alone, TINY)) == {"generator", "heads"}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (SPLConfig(4, 4, 1, 1, 1, 4), r"of shape .* the published state has .*'decoder\.1.*, the network none"),
        (SPNConfig(**vars(TINY) | {"probabilistic": True}), r"'feature_recon\.0.*has the shape .* correct the map"),
    ],
)
def test_a_file_of_another_kind_is_refused(other: SPNConfig | SPLConfig, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_published(published_file(TINY, PatchCritic())[0], other)


def test_a_second_name_whose_tensor_differs_is_refused() -> None:
    file, _, _ = published_file(TINY, PatchCritic())
    file["discriminator.module.features.0.weight_u"] += 1
    with pytest.raises(ValueError, match=r"'features\.0\.weight_u' of the critic differs from 'conv1\.0\.weight_u'"):
        split_published(file)
