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
from jobs.options import URI, Key, parse_options
from jobs.progress import progress, say
from pipelines.data.build.eval_masks import has_file_masks, hash_mask_files
from pipelines.data.build.pipeline import Progress, add_layer, build_dataset, check_plan
from pipelines.data.build.timing import BuildStats
from pipelines.data.commit.commit import prune
from pipelines.data.commit.workspace import Plan
from pipelines.data.config import DatasetConfig
from pipelines.data.dataset.edit import merge_layers, remove_photos
from pipelines.data.image.normalize import check_normalization
from pipelines.data.sources import DATASETS
from pipelines.manifest import Dataset, open_dataset
from pipelines.records import UsageError


@dataclass(frozen=True)
class Arguments:
    """Build a dataset of webdataset shards from photos. The same command continues an interrupted build.

    At the same --out, a root with other file names or sizes is refused. To change a dataset, give `--out URI` and one
    of `--add ROOT` (add the photos of another root as a new layer), `--remove KEY ...` (remove photos; `@FILE` reads
    keys from lines of a file) and `--compact` (merge all layers into one). `--prune` deletes files that only older
    versions of the dataset use, also together with one of these.
    """

    config: Annotated[DatasetConfig, tyro.conf.arg(name="")]
    out: URI
    """Folder or URI of the dataset to build."""
    root: URI | None = None
    """Folder, archive or URI of the source; packages needs none."""
    seed: int = 0
    """Seed of the held-out share and of the stored masks."""
    mask_files: URI | None = None
    """Folder or URI with the files of mask families such as irregular."""


@dataclass(frozen=True)
class Change:
    """Change a dataset and keep its settings. Running readers continue with the old files until these are pruned."""

    out: URI
    """Folder or URI of the dataset."""
    add: URI | None = None
    """Folder, archive or URI of another root of the same source, whose photos become a layer."""
    mask_files: URI | None = None
    """Folder or URI with mask files, as in the build, for that layer."""
    remove: tuple[Key, ...] = ()
    """Keys of photos to remove; @FILE reads keys from the lines of a file."""
    compact: bool = False
    """Merge all layers into one."""
    prune: bool = False
    """Delete the files that only older versions of the dataset use."""


Work = Callable[[Progress, BuildStats], tuple[Dataset, list[str]]]
CHANGES: Final = ("--add", "--remove", "--compact", "--prune")


def parse(words: list[str]) -> Arguments | Change:
    """Arguments of a change if one of its options is given, else of a build."""
    if any(word.partition("=")[0] in CHANGES for word in words):
        return parse_options(Change, "shard", words)
    return parse_options(Arguments, "shard", words)


def check(arguments: Arguments | Change) -> None:
    """Raise UsageError for arguments that no root and no dataset make possible."""
    if isinstance(arguments, Arguments):
        resolve_root(arguments)
        check_normalization(arguments.config)
        return
    if not (arguments.add or arguments.remove or arguments.compact or arguments.prune):
        raise UsageError("no change given: give --add ROOT, --remove KEY, --compact or --prune")
    if sum((arguments.add is not None, bool(arguments.remove), arguments.compact)) > 1:
        raise UsageError(
            "more than one change given: give one of --add, --remove and --compact, with or without --prune"
        )


def run(arguments: Arguments | Change) -> dict[str, Any]:
    """Build or change the dataset, and report."""
    # Check the arguments before any file is made.
    check(arguments)
    started, stats = time.monotonic(), BuildStats()
    work = _prepare_change(arguments) if isinstance(arguments, Change) else _prepare_build(arguments)
    # Do the work.
    with lock_folder(arguments.out), progress() as show:
        dataset, pruned = work(show, stats)
    # Warn of what was not checked, and report.
    if isinstance(arguments, Arguments) and dataset.root is None:
        say(f"note: {arguments.out} has no record of its root's files, so --root was not compared with it")
    checked_pixels = DatasetConfig.from_json(dataset.commit["recipe"]).decode_check
    if not checked_pixels:
        say("note: photos were stored without decoding (--no-decode-check), so some may have damaged pixels")
    return {
        "dataset": arguments.out,
        **dataset.commit["ledger"],
        "num_planes": sum(shard.num_planes for shard in dataset.shards),
        "num_planes_rejected": sum(shard.num_planes_rejected for shard in dataset.shards),
        **_count_rejected_files(dataset),
        "num_absent": sum(layer["num_absent"] for layer in dataset.layers),
        "num_shards": dataset.commit["num_shards"],
        "num_layers": len(dataset.layers),
        "manifest_sha256": dataset.manifest_sha256,
        "pixels_checked": checked_pixels,
        **({"pruned": pruned} if isinstance(arguments, Change) else {}),
        **stats.summarize(time.monotonic() - started),
    }


def _count_rejected_files(dataset: Dataset) -> dict[str, int]:
    """Numbers of rejected files that are masks or system files; shown on stderr too."""
    num_masks = sum(shard.num_masks for shard in dataset.shards)
    num_system_files = sum(shard.num_system_files for shard in dataset.shards)
    if num_masks:
        say(f"left out as masks: {num_masks} (--masks-as-photos stores them as photos)")
    if num_system_files:
        say(f"left out as files of an operating system (.DS_Store, ._x.jpg ...): {num_system_files}")
    return {"num_masks": num_masks, "num_system_files": num_system_files}


def _prepare_build(arguments: Arguments) -> Work:
    plan = check_plan(_plan(arguments))
    return lambda show, stats: (build_dataset(plan, show, stats), [])


def _plan(arguments: Arguments) -> Plan:
    config, files = arguments.config, arguments.mask_files
    if files is not None and has_file_masks(config):
        config = replace(config, mask_files_sha256=hash_mask_files(files))
    return Plan(resolve_root(arguments), arguments.out, config, arguments.seed, files)


def _prepare_change(change: Change) -> Work:
    open_dataset(change.out)
    return partial(_change, change)


def _change(change: Change, show: Progress, stats: BuildStats) -> tuple[Dataset, list[str]]:
    """Change the dataset, and return it with the names of deleted files."""
    dataset = open_dataset(change.out)
    if change.add is not None:
        config = DatasetConfig.from_json(dataset.commit["recipe"])
        plan = Plan(change.add, change.out, config, dataset.commit["seed"], change.mask_files)
        dataset = add_layer(plan, show, stats)
    if change.remove:
        keys = [key for word in change.remove for key in _read_keys(word)]
        dataset = remove_photos(change.out, keys, show, stats)
    if change.compact:
        dataset = merge_layers(change.out, show, stats)
    return dataset, prune(change.out) if change.prune else []


def _read_keys(word: str) -> list[str]:
    """The word itself, or the keys in the lines of an `@FILE`."""
    if not word.startswith("@"):
        return [word]
    if not Path(word[1:]).is_file():
        raise UsageError(f"--remove {word}: no such file; give one with a key in each line")
    return [line for line in Path(word[1:]).read_text().splitlines() if line]


def resolve_root(arguments: Arguments) -> str:
    """Root of the source, by default that of the source itself; raises UsageError without one."""
    name = arguments.config.source
    if name not in DATASETS:
        raise UsageError(f"unknown source {name!r}: use one of {', '.join(DATASETS)}")
    default_root = DATASETS[name].default_root
    if arguments.root is not None:
        return arguments.root
    if default_root is None:
        raise UsageError(f"--root is missing: give the folder of the source {name!r}")
    return default_root()


if __name__ == "__main__":
    run_as_module("shard")
