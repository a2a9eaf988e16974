"""`lacuna shard`: photos in their own layout -> a dataset of webdataset shards, and changes of such a dataset."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import tyro

from infra.lock import lock_folder
from jobs.cli import run_as_module
from jobs.progress import progress, say
from pipelines.data.build.eval_masks import hash_mask_files, has_file_masks
from pipelines.data.build.pipeline import Progress, add_layer, build_dataset, checked
from pipelines.data.build.timing import BuildStats
from pipelines.data.commit.commit import prune
from pipelines.data.commit.workspace import Plan
from pipelines.data.config import DatasetConfig
from pipelines.data.dataset.edit import merge_layers, remove_photos
from pipelines.data.sources import DATASETS
from pipelines.manifest import Dataset, open_dataset
from pipelines.records import UsageError


@dataclass(frozen=True)
class Arguments:
    """Build a dataset of webdataset shards from photos. The same command again resumes or finds it done.

    A root whose files have other names or sizes is refused at the same --out, wherever it lies: that costs one listing.
    A committed dataset is changed with `--out URI` and one of `--add ROOT` (photos of a further root, as a layer of
    their own), `--remove KEY ...` (`@FILE`: its lines), `--compact` (layers into one) and `--prune` (old files away).
    """

    recipe: Annotated[DatasetConfig, tyro.conf.arg(name="")]
    out: str
    """URI of the dataset to make."""
    root: str | None = None
    """URI of the folder or archive that holds the source; `packages` needs none."""
    seed: int = 0
    """Seed of the held-out share and of the stored masks."""
    mask_files: str | None = None
    """URI of the folder with the files of mask families such as `irregular`."""


@dataclass(frozen=True)
class Change:
    """Change a committed dataset; its recipe stays. Who reads it goes on with the old files until they are pruned."""

    out: str
    """URI of the dataset."""
    add: str | None = None
    """URI of a further root of the same source, whose photos become a layer."""
    mask_files: str | None = None
    """As in the build, for the masks of that layer."""
    remove: tuple[str, ...] = ()
    """Keys of photos to take out; `@FILE` stands for the lines of a file."""
    compact: bool = False
    """Merge all layers into one."""
    prune: bool = False
    """Delete the files that only older commits name."""


Work = Callable[[Progress, BuildStats], tuple[Dataset, list[str]]]
CHANGES: Final = ("--add", "--remove", "--compact", "--prune")


def parse(words: list[str]) -> Arguments | Change:
    """A build, or a change if one is named."""
    if any(word.partition("=")[0] in CHANGES for word in words):
        return tyro.cli(Change, args=words, prog="lacuna shard")
    return tyro.cli(Arguments, args=words, prog="lacuna shard")


def run(arguments: Arguments | Change) -> dict[str, Any]:
    """Builds or changes, and reports."""
    started, effort = time.monotonic(), BuildStats()
    work = _change(arguments) if isinstance(arguments, Change) else _build(arguments)  # refused before a file is made
    with lock_folder(arguments.out), progress() as show:
        dataset, pruned = work(show, effort)
    if isinstance(arguments, Arguments) and dataset.root is None:
        say(f"the record of {arguments.out} does not say what its root held: --root was not compared with it")
    checked_pixels = DatasetConfig.from_json(dataset.commit["recipe"]).decode_check
    if not checked_pixels:
        say("note: photos were stored without decoding them (--no-decode-check): a training may meet damaged pixels")
    return {
        "dataset": arguments.out,
        **dataset.commit["ledger"],
        "num_planes": sum(shard.num_planes for shard in dataset.shards),
        "num_planes_rejected": sum(shard.num_planes_rejected for shard in dataset.shards),
        **_apart(dataset),
        "num_absent": sum(layer["num_absent"] for layer in dataset.layers),
        "num_shards": dataset.commit["num_shards"],
        "num_layers": len(dataset.layers),
        "manifest_sha256": dataset.manifest_sha256,
        "pixels_checked": checked_pixels,
        **({"pruned": pruned} if isinstance(arguments, Change) else {}),
        **effort.summarize(time.monotonic() - started),
    }


def _apart(dataset: Dataset) -> dict[str, int]:
    """Numbers of rejected files that are no photos at all, which are said on stderr too."""
    num_masks = sum(shard.num_masks for shard in dataset.shards)
    num_system_files = sum(shard.num_system_files for shard in dataset.shards)
    if num_masks:
        say(f"masks, not taken for photos: {num_masks} (a build with --masks-as-photos takes them)")
    if num_system_files:
        say(f"files of an operating system (.DS_Store, ._x.jpg ...), not taken for photos: {num_system_files}")
    return {"num_masks": num_masks, "num_system_files": num_system_files}


def _build(arguments: Arguments) -> Work:
    plan = checked(_plan(arguments))
    return lambda show, effort: (build_dataset(plan, show, effort), [])


def _plan(arguments: Arguments) -> Plan:
    recipe, files = arguments.recipe, arguments.mask_files
    if files is not None and has_file_masks(recipe):
        recipe = replace(recipe, mask_files_sha256=hash_mask_files(files))
    return Plan(resolve_root(arguments), arguments.out, recipe, arguments.seed, files)


def _change(change: Change) -> Work:
    open_dataset(change.out)
    if not (change.add or change.remove or change.compact or change.prune):
        raise UsageError("nothing to change: give --add ROOT, keys after --remove, --compact or --prune")
    if sum((change.add is not None, bool(change.remove), change.compact)) > 1:
        raise UsageError(
            "too many changes at once: give one of --add, --remove and --compact; --prune may go with each"
        )
    return partial(_changed, change)


def _changed(change: Change, show: Progress, effort: BuildStats) -> tuple[Dataset, list[str]]:
    """The dataset after all that was asked for, and the files that were deleted."""
    dataset = open_dataset(change.out)
    if change.add is not None:
        recipe = DatasetConfig.from_json(dataset.commit["recipe"])
        plan = Plan(change.add, change.out, recipe, dataset.commit["seed"], change.mask_files)
        dataset = add_layer(plan, show, effort)
    if change.remove:
        dataset = remove_photos(change.out, _keys(change.remove), show, effort)
    if change.compact:
        dataset = merge_layers(change.out, show, effort)
    return dataset, prune(change.out) if change.prune else []


def _keys(words: tuple[str, ...]) -> list[str]:
    """The keys, those of `@FILE` read from it."""
    return [key for word in words for key in (_lines(word[1:]) if word.startswith("@") else [word])]


def _lines(path: str) -> list[str]:
    if not Path(path).is_file():
        raise UsageError(f"no file {path} with the keys to remove: give one key a line")
    return [line for line in Path(path).read_text().splitlines() if line]


def resolve_root(arguments: Arguments) -> str:
    name = arguments.recipe.source
    if name not in DATASETS:
        raise UsageError(f"unknown source {name!r}: known are {', '.join(DATASETS)}")
    default_root = DATASETS[name].default_root
    if arguments.root is not None:
        return arguments.root
    if default_root is None:
        raise UsageError(f"--root is missing: give the folder that holds the source {name!r}")
    return default_root()


if __name__ == "__main__":
    run_as_module("shard")
