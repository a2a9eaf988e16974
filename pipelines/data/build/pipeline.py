"""The build of a dataset: listing, scan, duplicates and shards as Ray tasks, then the commit record.

In: a plan. Out: a committed `Dataset`. The driver holds a handful of numbers per shard and none per photo. A build
that was killed goes on where it stopped; one that is committed is only read again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from infra import storage
from infra.cluster import connect_ray, count_cores, run_tasks
from pipelines.data.build.dedup import earlier_shards, find_duplicates, mark_duplicates, resolve_keys
from pipelines.data.build.eval_masks import check_masks
from pipelines.data.dataset.inventory import is_shards_file
from pipelines.data.build.resumption import is_movable, refuse_changed_root
from pipelines.data.build.roofline import limit_of_copy
from pipelines.data.build.roots import record_of_root, refuse_other_root
from pipelines.data.build.scan import list_source, publish_absent, scan_files
from pipelines.data.build.timing import BuildStats, Cost, Seconds, Stopwatch
from pipelines.data.build.write_shard import write_shard
from pipelines.data.commit.commit import commit_dataset, describe, ledger_of, named_files, open_to_change, prune
from pipelines.data.commit.lock import CLAIM, base_of, claim, release
from pipelines.data.commit.workspace import Layout, Plan
from pipelines.data.config import DatasetConfig
from pipelines.data.image.normalize import check_cleaning
from pipelines.data.sources import DATASETS
from pipelines.manifest import COMMIT_FILE, Dataset, open_dataset, read_table
from pipelines.records import JobError, ShardRecord, UsageError

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""
CopyShard = Callable[..., ShardRecord]
"""Writes a shard of the dataset whose URI it is given first."""


def build_dataset(plan: Plan, progress: Progress, effort: BuildStats | None = None) -> Dataset:
    """Builds and commits the dataset of the plan, or finishes a build that was stopped, or finds it committed.

    `effort` takes in what the work costs. Raises UsageError for bad arguments, a foreign dataset at the place, or too
    many rejected photos.
    """
    plan = checked(plan)
    if _is_committed(plan):
        return _committed(plan)
    try:
        return _build_layer(plan, None, progress, effort or BuildStats())
    except (FileNotFoundError, JobError):  # without a lock two builders are at work, and the first clears the workspace
        if not _is_committed(plan):
            raise
        return _committed(plan)


def _is_committed(plan: Plan) -> bool:
    return storage.exists(storage.join(plan.out, COMMIT_FILE))


def _committed(plan: Plan, root: dict[str, Any] | None = None) -> Dataset:
    """The dataset that is committed at the place; raises UsageError unless it is that of the plan.

    `root`: the record of the plan's root if it was just listed. Datasets of older versions have none to compare with.
    """
    dataset = open_dataset(plan.out)
    _refuse_other(_as_begun(plan, dataset.commit), dataset)
    if there := dataset.root:
        refuse_other_root(plan, there, root or record_of_root(plan))
    if storage.exists(plan.at(CLAIM)):  # of the first build, of which there are no readers yet: nobody misses a file
        with suppress(UsageError):  # a change has begun since, and what it has made is not to be taken for leftovers
            prune(plan.out)
    release(plan.out, plan.base)
    return dataset


def add_layer(plan: Plan, progress: Progress, effort: BuildStats | None = None) -> Dataset:
    """Builds the photos under the plan's root as a further layer of the dataset that is committed at the place.

    What it holds already, or held before it was removed, is a duplicate; a root that brings nothing new adds no layer.
    Raises UsageError as `build_dataset` does, where nothing is committed, and where another change is at work.
    """
    plan = checked(plan)
    dataset = open_to_change(plan.out)
    plan = _as_begun(plan, dataset.commit)
    _refuse_other(plan, dataset)
    plan = replace(plan, layer=len(dataset.layers), base=base_of(dataset))
    try:
        return _build_layer(plan, dataset, progress, effort or BuildStats())
    except FileNotFoundError:  # as above, where the other was the same change
        if base_of(open_dataset(plan.out)) == plan.base:
            raise
        raise UsageError(f"{plan.out} was changed meanwhile: run the same command again") from None


def _absolute(plan: Plan) -> Plan:
    """The plan with URIs that tasks understand, who stand elsewhere."""
    files = storage.to_absolute(plan.mask_files) if plan.mask_files else None
    return replace(plan, root=storage.to_absolute(plan.root), out=storage.to_absolute(plan.out), mask_files=files)


def _build_layer(plan: Plan, base: Dataset | None, progress: Progress, effort: BuildStats) -> Dataset:
    plan = _claim(plan)
    shards: tuple[ShardRecord, ...] = ()
    try:
        with connect_ray():
            layout, seconds = next(run_tasks(_list, [(plan,)]))
            effort.add(seconds)
            shards = _build_shards(plan, layout, base, progress, effort)
        return _commit(plan, layout, shards, base)
    except UsageError:
        _withdraw(plan, (shard.file for shard in shards))  # the tables stay: they say what was rejected and why
        release(plan.out, plan.base)  # what was asked for cannot be: the place is free for other settings
        raise


def _withdraw(plan: Plan, files: Iterable[str]) -> None:
    """Removes files of a layer that is not committed, but for those that a dataset there names: a shard without a
    record is what a record is made of if all are lost.
    """
    kept = named_files(open_dataset(plan.out)) if _is_committed(plan) else set()
    for file in set(files) - kept:
        storage.remove(storage.join(plan.out, file))


def _list(plan: Plan) -> tuple[Layout, Seconds]:
    laps = Stopwatch()
    layout = list_source(plan)
    laps.end("listing")
    return layout, laps.seconds


def _build_shards(
    plan: Plan, layout: Layout, base: Dataset | None, progress: Progress, effort: BuildStats
) -> tuple[ShardRecord, ...]:
    """All steps between listing and commit."""
    buckets = range(layout.num_key_buckets)
    steps: dict[str, tuple[Callable[..., Seconds], Iterable[tuple[Any, ...]]]] = {
        "scanning": (scan_files, zip(range(layout.num_scans))),
        "naming": (resolve_keys, zip(buckets, earlier_shards(base, layout), strict=True)),
        "comparing": (find_duplicates, zip(range(layout.num_digest_buckets))),
        "marking": (mark_duplicates, zip(buckets)),
    }
    for what, (task, arguments) in steps.items():
        for seconds in _results(what, task, [(plan, layout, *more) for more in arguments], progress):
            effort.add(seconds)
    places = [(plan, layout, split, n) for split, count in layout.num_shards.items() for n in range(count)]
    shards = []
    for record, cost in _results("sharding", write_shard, places, progress):
        shards.append(record)
        effort.add_cost(cost)
    effort.count_cores = count_cores()
    return tuple(shards)


def checked(plan: Plan) -> Plan:
    """The plan as tasks understand it; raises UsageError where it cannot be followed."""
    plan = _absolute(plan)
    recipe = plan.recipe
    if recipe.source not in DATASETS:
        raise UsageError(f"unknown source {recipe.source!r}: known are {', '.join(DATASETS)}")
    check_cleaning(recipe)
    if recipe.splits and recipe.splits not in DATASETS[recipe.source].splits:
        known = ", ".join(DATASETS[recipe.source].splits)
        raise UsageError(f"unknown splits {recipe.splits!r}: the source {recipe.source!r} knows {known}")
    _check_planes(recipe.planes, recipe.source)
    if not 0 <= recipe.holdout < 1:
        raise UsageError(f"holdout is {recipe.holdout}: it is a share, at least 0 and less than 1")
    least = {"shard_bytes": 1, "mask_size_px": 2, "mask_canvas_px": 2, "masks_per_family": 0}
    for name, minimum in least.items():
        value = getattr(recipe, name)
        if value < minimum:
            raise UsageError(f"{name} is {value}: it must be at least {minimum}")
    check_masks(recipe, plan.mask_files)
    if f"{plan.out}/".startswith(f"{plan.root.rstrip('/')}/"):
        raise UsageError(f"--out {plan.out} lies under --root {plan.root}: the source would list its own shards")
    if not storage.exists(plan.root):
        raise UsageError(f"no folder or archive at {plan.root}: give the dataset's root with --root")
    return plan


def _check_planes(planes: tuple[str, ...], source: str) -> None:
    known = DATASETS[source].planes
    for plane in planes:
        if plane not in known:
            has = f"has {', '.join(known)}" if known else "has none"
            raise UsageError(f"unknown plane {plane!r}: the source {source!r} {has}; correct or leave out --planes")


def _claim(plan: Plan) -> Plan:
    """Writes down what is being built here, or checks that it is the same as before; returns the plan as begun."""
    change = "--add" if plan.layer else "first build"
    asked = {"change": change, "recipe": plan.recipe.as_json(), "seed": plan.seed, "root": plan.root}
    if not plan.layer:
        _refuse_lost_record(plan)
    there = claim(plan.at(), asked)
    plan = _as_begun(plan, there)
    _refuse_difference(plan, there, {} if is_movable(plan) else {"root": plan.root})
    refuse_changed_root(plan)
    return plan


def _refuse_lost_record(plan: Plan) -> None:
    """Raises UsageError where a dataset is that has lost its record: what was added to it would be pruned as leftovers.

    A build that is unfinished has a claim; its list of shards is the last file before the record.
    """
    if storage.exists(plan.at(CLAIM)) or not storage.exists(plan.out):
        return
    _, files = next(storage.list_folders(plan.out))
    lists = [name for name, _ in files if is_shards_file(name)]
    if lists and not _is_committed(plan):
        raise UsageError(
            f"{plan.out} holds {lists[0]}, the list of shards of a dataset, but its dataset.json is gone: make it "
            f"again with `lacuna verify {plan.out} --rebuild`, or give another --out"
        )


def _as_begun(plan: Plan, record: dict[str, Any]) -> Plan:
    """The plan without the check of pixels where the record's dataset was begun without: the check is the default,
    and was not always, so it asks nothing of a dataset that is older.
    """
    check = plan.recipe.decode_check and DatasetConfig.from_json(record["recipe"]).decode_check
    return replace(plan, recipe=replace(plan.recipe, decode_check=check))


def _refuse_other(plan: Plan, dataset: Dataset) -> None:
    """Raises UsageError where a dataset of another recipe or seed is committed at the place."""
    _refuse_difference(plan, dataset.commit, {})


def _refuse_difference(plan: Plan, record: dict[str, Any], more: dict[str, Any]) -> None:
    """`record` has seed and recipe; one that was written before a field of it was thought of has the default."""
    there = {**record, **DatasetConfig.from_json(record["recipe"]).as_json()}
    for name, value in {"seed": plan.seed, **more, **plan.recipe.as_json()}.items():
        if there.get(name) != value:
            raise UsageError(
                f"{plan.out} is being or was built with {name} = {there.get(name)!r}, not {value!r}: "
                "give the same settings again or another --out; who deletes "
                f"{plan.at()} gives an unfinished build up"
            )


def each_task(what: str, task: Callable[..., Any], arguments: list[tuple[Any, ...]], progress: Progress) -> list[Any]:
    """The results of a step's tasks, in the order in which they end."""
    return list(_results(what, task, arguments, progress))


def copied_shards(
    what: str, task: CopyShard, arguments: list[tuple[Any, ...]], progress: Progress, effort: BuildStats
) -> tuple[ShardRecord, ...]:
    """The results of tasks that write shards of a dataset, their first argument, out of its shards."""
    shards = []
    for shard, cost in _results(what, _copied, [(task, *more) for more in arguments], progress):
        shards.append(shard)
        effort.add_cost(cost)
    effort.count_cores = count_cores()
    return tuple(shards)


def _copied(task: CopyShard, dataset: Dataset, *more: Any) -> tuple[ShardRecord, Cost]:
    laps = Stopwatch()
    shard = task(dataset, *more)
    laps.end("copying")
    return shard, Cost(laps.seconds, shard.num_samples, limit_of_copy(dataset.uri, shard))


def _results(
    what: str, task: Callable[..., Any], arguments: list[tuple[Any, ...]], progress: Progress
) -> Iterator[Any]:
    progress(what, 0, len(arguments))
    for done, result in enumerate(run_tasks(task, arguments), 1):
        yield result
        progress(what, done, len(arguments))


def _commit(plan: Plan, layout: Layout, shards: tuple[ShardRecord, ...], base: Dataset | None) -> Dataset:
    """Checks that the ledger balances and writes the records that make the layer exist, the last one last."""
    if base is None and _is_committed(plan):
        return _committed(plan, layout.root)  # by another builder; it is never replaced
    ledger = ledger_of(shards)
    if ledger["num_inputs"] != layout.num_files:
        raise RuntimeError(
            f"the ledger of {plan.out} does not balance: {layout.num_files} files, {ledger}; nothing was committed"
        )
    _refuse_rejections(plan, layout, shards, ledger, is_first=base is None)
    if base and not ledger["num_written"]:
        _withdraw(plan, (name for shard in shards for name in (shard.file, shard.table)))
        release(plan.out, plan.base)
        return base
    described: dict[str, Any] = {"num_shards": layout.num_shards, "num_absent": layout.num_absent}
    if base is None and layout.root is not None:
        described["root"] = layout.root
    layers = [*(base.layers if base else ()), described | {"absent": publish_absent(plan, layout)}]
    both = (*(base.shards if base else ()), *shards)
    dataset = commit_dataset(describe(plan.out, plan.recipe.as_json(), plan.seed, layers, both), base)
    if base is None:
        return _committed(plan, layout.root)
    release(plan.out, plan.base)
    return dataset


def _refuse_rejections(
    plan: Plan, layout: Layout, shards: tuple[ShardRecord, ...], ledger: dict[str, int], is_first: bool
) -> None:
    """Raises UsageError where too many photos were rejected, or none was written of a first layer."""
    written, rejected = ledger["num_written"], ledger["num_rejected"]
    num_masks = sum(shard.num_masks for shard in shards)
    num_apart = num_masks + sum(shard.num_system_files for shard in shards)
    too_many = rejected - num_apart > max(10, plan.recipe.max_reject_share * (layout.num_files - num_apart))
    if too_many or (is_first and not written):
        masks = f"; {num_masks} look like masks, which --masks-as-photos takes for photos" if num_masks else ""
        raise UsageError(
            f"{rejected} of {layout.num_files} files under {plan.root} were rejected, {written} written; nothing was "
            f"committed. Most often: {_commonest_reason(plan.out, shards)}{masks}; all reasons are in {plan.out}/tables"
        )


def _commonest_reason(uri: str, shards: tuple[ShardRecord, ...]) -> str:
    """The reason that most rejected files share, in the shard that has the most of them."""
    shard = max(shards, key=lambda s: s.num_rejected)
    reasons = Counter(row["reason"] for row in read_table(uri, shard).to_pylist() if row["outcome"] == "rejected")
    return "; ".join(reason for reason, _ in reasons.most_common(1)) or "none is a new photo"
