"""What tests are made of: photos whose colors say which they are, a small recipe, and the command as a process."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from jobs.recipes.deepgin import deepgin_demo
from nets import build_network, describe_network
from nets.deepgin.network import DeepGINConfig
from nets.mhtma.network import MHTMAConfig
from nets.spn.network import SPNConfig
from pipelines.checkpoints import Checkpoint, save_checkpoint
from pipelines.data.config import DatasetConfig
from pipelines.stream.config import StreamConfig
from pipelines.training.recipe import TrainRecipe

SIZE_PX = 32
SKETCHED = MHTMAConfig(8, dilations=(2,), sketch=True, residual=True)
MAPPED = DeepGINConfig(8, 1, 1, segmentation=True)
PROBABILISTIC = SPNConfig(
    width=4, spade_width=4, num_spade_blocks=1, num_dense_blocks=1, num_dense_layers=1, growth=4, probabilistic=True
)
"""Small networks that take a sketch, a segmentation map and noise."""


def photo(number: int, height: int = 48, width: int = 40) -> Image.Image:
    """A smooth picture of which no two numbers under 1000 are alike."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.array([number % 10, number // 10 % 10, number // 100 % 10]) * 20 + 30
    ramp = np.stack([x * 50 / width, y * 50 / height, (x + y) * 25 / width], axis=2)
    return Image.fromarray((base + ramp).astype(np.uint8), "RGB")


def photo_folder(folder: Path, count: int) -> Path:
    """A folder with `count` photos, PNG and JPEG in turn, in two classes."""
    for number in range(count):
        path = folder / f"class{number % 2}" / f"{number:04d}.{'png' if number % 2 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(number).save(path, quality=95)
    return folder


def shard_recipe(**changes: Any) -> DatasetConfig:
    """A folder in some shards, a fifth of it held out with small masks."""
    small = DatasetConfig("folder", holdout=0.2, mask_size_px=SIZE_PX, mask_canvas_px=64, shard_bytes=10_000)
    return replace(small, **changes)


def train_recipe(**changes: Any) -> TrainRecipe:
    """DeepGIN as small as it gets: both stages within 32 photos, a checkpoint every 8."""
    small = replace(
        deepgin_demo(),
        name="tiny",
        objective=replace(deepgin_demo().objective, network=DeepGINConfig(8, 1, 1), critic_width=4, warm_up_images=16),
        stream=StreamConfig(size_px=SIZE_PX, resize="random-square", mask_canvas_px=64, num_lanes=4, block_size=8),
        batch_size=4,
        images=32,
        constant_images=16,
        checkpoint_images=8,
        metric_images=4,
    )
    return replace(small, **changes)


def save_network(config: Any, out: Path, size_px: int = SIZE_PX, factor: float = 2, **facts: Any) -> Checkpoint:
    """A checkpoint of such a network with random weights, times a factor so that they matter."""
    torch.manual_seed(0)
    description = describe_network(config)
    network = build_network(description)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(factor)
    state = facts | {"images_seen": 4, "network": description, "size_px": size_px}
    return save_checkpoint(str(out), {"generator": dict(network.state_dict())}, state)


def files_of(out: Path) -> dict[str, bytes]:
    """Every file of a dataset on a local disk, by its path in it; not the lock of who builds."""
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != ".lock"}


def lacuna(*words: str, cwd: Path, **environment: str) -> tuple[int, dict[str, Any], str]:
    """Runs the command in a process of its own: exit code, the JSON report of its only line on stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *words],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = done.stdout.strip().split("\n")
    report: dict[str, Any] = json.loads(line)
    return done.returncode, report, done.stderr


def scene_folder(folder: Path, count: int) -> Path:
    """ADE20K in small: `count` training photos and half as many for validation, each with its segmentation map.

    The challenge's list names every second training photo, and one that is not there.
    """
    images = folder / "ADE20K_2016_07_26" / "images"
    for number in range(count + count // 2):
        part, name = ("training", "train") if number < count else ("validation", "val")
        path = images / part / "a" / f"scene{number % 2}" / f"ADE_{name}_{number:08d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(number).save(path, quality=95)
        classes = np.random.default_rng(number).choice(np.array([0, 7, 90, 255], np.uint8), (48, 40, 3))
        Image.fromarray(classes).save(path.with_name(f"{path.stem}_seg.png"))
    names = [f"ADE_train_{number:08d}.jpg" for number in (*range(0, count, 2), 99_999_999)]
    (folder / "new_image_names.txt").write_text("\n".join(names))
    return folder
