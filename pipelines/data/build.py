"""The build of a dataset: listing, scan, duplicates and shards as Ray tasks, then the commit record.

In: a plan. Out: a committed `Dataset`. The driver holds a handful of numbers per shard and none per photo. A build
that was killed goes on where it stopped; one that is committed is only read again.
"""

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from infra import storage
from infra.cluster import connected, run_tasks
from pipelines.data.cleaning import check_cleaning
from pipelines.data.listing import list_source, scan_chunk
from pipelines.data.settling import find_duplicates, settle_keys
from pipelines.data.shards import write_shard
from pipelines.data.sources import DATASETS
from pipelines.data.workspace import Layout, Plan
from pipelines.manifest import (
    COMMIT_FILE,
    FORMAT,
    SHARDS_FILE,
    Dataset,
    manifest_digest,
    open_dataset,
    seal,
    shards_to_parquet,
)
from pipelines.masks import MASKS
from pipelines.records import Refused, ShardRecord, sha256_hex

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def build_dataset(plan: Plan, progress: Progress) -> Dataset:
    """Builds and commits the dataset of the plan, or finishes a build that was stopped, or finds it committed.

    Raises Refused for bad arguments, a foreign dataset at the place, or too many rejected photos.
    """
    plan = replace(plan, root=storage.absolute(plan.root), out=storage.absolute(plan.out))  # tasks stand elsewhere
    _check(plan)
    if storage.exists(storage.join(plan.out, COMMIT_FILE)):
        dataset = _same_dataset(plan)
        storage.remove(plan.at())
        return dataset
    _claim(plan)
    try:
        with connected():
            layout = next(run_tasks(list_source, [(plan,)]))
            shards = _build_shards(plan, layout, progress)
        return _commit(plan, layout, shards)
    except Refused:
        storage.remove(plan.at())  # what was asked for cannot be: the place is free for other settings
        raise


def _build_shards(plan: Plan, layout: Layout, progress: Progress) -> tuple[ShardRecord, ...]:
    """All steps between listing and commit; returns the shards in order of (split, number)."""
    _each("scanning", scan_chunk, [(plan, layout, c) for c in range(layout.num_chunks)], progress)
    _each("naming", settle_keys, [(plan, layout, b) for b in range(layout.num_key_buckets)], progress)
    _each("comparing", find_duplicates, [(plan, layout, b) for b in range(layout.num_digest_buckets)], progress)
    places = [(split, n) for split, count in layout.num_shards.items() for n in range(count)]
    shards = _each("sharding", write_shard, [(plan, layout, split, n) for split, n in places], progress)
    return tuple(sorted(shards, key=lambda s: (s.split, s.number)))


def _check(plan: Plan) -> None:
    recipe = plan.recipe
    if recipe.source not in DATASETS:
        raise Refused(f"unknown source {recipe.source!r}: known are {', '.join(DATASETS)}")
    if unknown := [family for family in recipe.masks if family not in MASKS]:
        raise Refused(f"unknown mask family {unknown[0]!r}: known are {', '.join(MASKS)}")
    check_cleaning(recipe)
    if not 0 <= recipe.holdout < 1:
        raise Refused(f"holdout is {recipe.holdout}: it is a share, at least 0 and less than 1")
    least = {"shard_bytes": 1, "mask_size_px": 2, "mask_canvas_px": 2, "masks_per_family": 0}
    for name, minimum in least.items():
        value = getattr(recipe, name)
        if value < minimum:
            raise Refused(f"{name} is {value}: it must be at least {minimum}")
    if f"{plan.out}/".startswith(f"{plan.root.rstrip('/')}/"):
        raise Refused(f"--out {plan.out} lies under --root {plan.root}: the source would list its own shards")
    if not storage.exists(plan.root):
        raise Refused(f"no folder at {plan.root}: give the dataset's root with --root")


def _same_dataset(plan: Plan) -> Dataset:
    dataset = open_dataset(plan.out)
    _refuse_other(plan, {"recipe": dataset.commit["recipe"], "seed": dataset.commit["seed"]})
    return dataset


def _claim(plan: Plan) -> None:
    """Writes down what is being built here, or checks that it is the same as before."""
    asked = {"recipe": _as_json(plan), "seed": plan.seed, "root": plan.root}
    _refuse_other(plan, plan.once("plan", lambda: asked))


def _refuse_other(plan: Plan, present: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"seed": plan.seed, "root": plan.root, **_as_json(plan)}
    there: dict[str, Any] = {"root": plan.root, **present, **present["recipe"]}
    for name, value in asked.items():
        if there.get(name) != value:
            raise Refused(
                f"{plan.out} is being or was built with {name} = {there.get(name)!r}, not {value!r}: "
                "give the same settings again or another --out"
            )


def _as_json(plan: Plan) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(plan.recipe).items()}


def _each(what: str, task: Callable[..., Any], arguments: list[tuple[Any, ...]], progress: Progress) -> list[Any]:
    results = []
    progress(what, 0, len(arguments))
    for result in run_tasks(task, arguments):
        results.append(result)
        progress(what, len(results), len(arguments))
    return results


def _commit(plan: Plan, layout: Layout, shards: tuple[ShardRecord, ...]) -> Dataset:
    """Checks that the ledger balances and writes the records that make the dataset exist, the last one last."""
    written, duplicates, rejected = (
        sum(getattr(s, name) for s in shards) for name in ("num_samples", "num_duplicates", "num_rejected")
    )
    inputs = layout.num_files
    ledger = {"num_inputs": inputs, "num_written": written, "num_duplicates": duplicates, "num_rejected": rejected}
    if inputs != written + duplicates + rejected:
        raise RuntimeError(f"the ledger of {plan.out} does not balance: {ledger}; nothing was committed")
    if rejected > max(10, plan.recipe.max_reject_share * inputs) or not written:
        raise Refused(
            f"{rejected} of {inputs} files under {plan.root} were rejected, {written} written: see the reasons in "
            f"{plan.out}/tables; nothing was committed"
        )
    table = shards_to_parquet(shards)
    commit = {
        "format": FORMAT,
        "recipe": _as_json(plan),
        "seed": plan.seed,
        "num_shards": layout.num_shards,
        "layers": [0],
        "ledger": ledger,
        "shards_sha256": sha256_hex(table),
        "manifest_sha256": manifest_digest(_as_json(plan), plan.seed, shards),
    }
    storage.publish(storage.join(plan.out, SHARDS_FILE), table)
    _drop_strangers(plan, layout, shards)
    storage.publish(storage.join(plan.out, COMMIT_FILE), seal(commit))
    storage.remove(plan.at())
    return Dataset(plan.out, commit, shards)


def _drop_strangers(plan: Plan, layout: Layout, shards: tuple[ShardRecord, ...]) -> None:
    """Removes shards and tables of builds that were given up here, and what killed processes had written aside."""
    for folder in ("", "tables", *layout.num_shards):
        storage.sweep(storage.join(plan.out, folder))
    ours = {name for shard in shards for name in (shard.file, shard.table)}
    splits, number = "|".join(layout.num_shards), r"\d{6}-[0-9a-f]{12}"
    made_here = re.compile(rf"(?:{splits})/{plan.recipe.source}-{number}\.tar|tables/(?:{splits})-{number}\.parquet")
    for name, _ in list(storage.list_files(plan.out)):
        if made_here.fullmatch(name) and name not in ours:
            storage.remove(storage.join(plan.out, name))
