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
from pipelines.data.build.dedup import find_duplicates, group_earlier_shards, mark_duplicates, resolve_keys
from pipelines.data.build.eval_masks import check_masks
from pipelines.data.build.resumption import is_movable, refuse_changed_root
from pipelines.data.build.roofline import estimate_copy_seconds
from pipelines.data.build.roots import make_root_record, refuse_other_root
from pipelines.data.build.scan import list_source, publish_absent, scan_files
from pipelines.data.build.timing import BuildStats, Cost, Seconds, Stopwatch
from pipelines.data.build.write_shard import write_shard
from pipelines.data.commit.commit import (
    commit_dataset,
    describe_dataset,
    is_shards_file,
    list_named_files,
    open_to_change,
    prune,
    sum_ledger,
)
from pipelines.data.commit.lock import CLAIM, claim_workspace, get_base_name, remove_workspace
from pipelines.data.commit.workspace import Layout, Plan
from pipelines.data.config import DatasetConfig
from pipelines.data.image.normalize import check_normalization
from pipelines.data.sources import DATASETS
from pipelines.manifest import COMMIT_FILE, Dataset, open_dataset, read_table
from pipelines.records import JobError, ShardRecord, UsageError

Progress = Callable[[str, int, int], None]
"""Function of a step's name, its finished tasks and all its tasks."""
CopyShard = Callable[..., ShardRecord]
"""Function that writes a shard of the dataset that is its first argument."""


def build_dataset(plan: Plan, progress: Progress, stats: BuildStats | None = None) -> Dataset:
    """Build and commit the dataset of the plan, or finish a build that was stopped, or find it committed.

    `stats` collects the cost of the work. Raises UsageError for bad arguments, a foreign dataset at the URI, or too
    many rejected photos.
    """
    plan = check_plan(plan)
    if _is_committed(plan):
        return _open_committed(plan)
    try:
        return _build_layer(plan, None, progress, stats or BuildStats())
    except (FileNotFoundError, JobError):  # stores have no locks: another builder may have cleared the workspace
        if not _is_committed(plan):
            raise
        return _open_committed(plan)


def _is_committed(plan: Plan) -> bool:
    return storage.exists(storage.join(plan.out, COMMIT_FILE))


def _open_committed(plan: Plan, root: dict[str, Any] | None = None) -> Dataset:
    """The committed dataset; raises UsageError unless it is that of the plan.

    `root`: record of the plan's root if it was just listed. Datasets of older versions have none to compare with.
    """
    dataset = open_dataset(plan.out)
    _refuse_difference(_adopt_decode_check(plan, dataset.commit), dataset.commit)
    if there := dataset.root:
        refuse_other_root(plan, there, root or make_root_record(plan))
    if storage.exists(plan.at(CLAIM)):  # of the first build, which has no readers yet
        with suppress(UsageError):  # a change has begun since: its files are no leftovers
            prune(plan.out)
    remove_workspace(plan.out, plan.base)
    return dataset


def add_layer(plan: Plan, progress: Progress, stats: BuildStats | None = None) -> Dataset:
    """Build the photos under the plan's root as a further layer of the committed dataset.

    Photos that it holds, or held before they were removed, are duplicates; a root without a new photo adds no layer.
    Raises UsageError as `build_dataset` does, where nothing is committed, and where another change is at work.
    """
    plan = check_plan(plan)
    dataset = open_to_change(plan.out)
    plan = _adopt_decode_check(plan, dataset.commit)
    _refuse_difference(plan, dataset.commit)
    plan = replace(plan, layer=len(dataset.layers), base=get_base_name(dataset))
    try:
        return _build_layer(plan, dataset, progress, stats or BuildStats())
    except FileNotFoundError:  # as above, where the other was the same change
        if get_base_name(open_dataset(plan.out)) == plan.base:
            raise
        raise UsageError(f"{plan.out} was changed meanwhile: run the same command again") from None


def _build_layer(plan: Plan, base: Dataset | None, progress: Progress, stats: BuildStats) -> Dataset:
    plan = _claim(plan)
    shards: tuple[ShardRecord, ...] = ()
    try:
        with connect_ray():
            layout, seconds = next(run_tasks(_time_listing, [(plan,)]))
            stats.add(seconds)
            shards = _build_shards(plan, layout, base, progress, stats)
        return _commit(plan, layout, shards, base)
    except UsageError:  # free the URI for other settings
        _withdraw(plan, (shard.file for shard in shards))  # the tables stay: they hold the reasons of rejections
        remove_workspace(plan.out, plan.base)
        raise


def _withdraw(plan: Plan, files: Iterable[str]) -> None:
    """Remove files of a layer that is not committed, except those of a committed dataset.

    None may stay: lost records are rebuilt from the shards that lie there.
    """
    kept = list_named_files(open_dataset(plan.out)) if _is_committed(plan) else set()
    for file in set(files) - kept:
        storage.remove(storage.join(plan.out, file))


def _time_listing(plan: Plan) -> tuple[Layout, Seconds]:
    stopwatch = Stopwatch()
    with stopwatch.measure("listing"):
        layout = list_source(plan)
    return layout, stopwatch.seconds


def _build_shards(
    plan: Plan, layout: Layout, base: Dataset | None, progress: Progress, stats: BuildStats
) -> tuple[ShardRecord, ...]:
    """Shards of a layer, by all steps between listing and commit."""
    buckets = range(layout.num_key_buckets)
    steps: dict[str, tuple[Callable[..., Seconds], Iterable[tuple[Any, ...]]]] = {
        "scanning": (scan_files, zip(range(layout.num_scans))),
        "naming": (resolve_keys, zip(buckets, group_earlier_shards(base, layout), strict=True)),
        "comparing": (find_duplicates, zip(range(layout.num_digest_buckets))),
        "marking": (mark_duplicates, zip(buckets)),
    }
    # Scan all files and resolve their keys, step by step.
    for what, (task, arguments) in steps.items():
        for seconds in _task_results(what, task, [(plan, layout, *more) for more in arguments], progress):
            stats.add(seconds)
    # Write the shards.
    places = [(plan, layout, split, n) for split, count in layout.num_shards.items() for n in range(count)]
    shards = []
    for record, cost in _task_results("sharding", write_shard, places, progress):
        shards.append(record)
        stats.add_cost(cost)
    stats.num_cores = count_cores()
    return tuple(shards)


def check_plan(plan: Plan) -> Plan:
    """The plan with absolute URIs; raises UsageError where one of its values is invalid."""
    files = storage.to_absolute(plan.mask_files) if plan.mask_files else None  # tasks run in other folders
    plan = replace(plan, root=storage.to_absolute(plan.root), out=storage.to_absolute(plan.out), mask_files=files)
    config, source = plan.config, DATASETS.get(plan.config.source)
    # Check the names of the config, then its numbers.
    if source is None:
        raise UsageError(f"unknown source {config.source!r}: use one of {', '.join(DATASETS)}")
    check_normalization(config)
    if config.splits and config.splits not in source.splits:
        known = ", ".join(source.splits)
        raise UsageError(f"unknown splits {config.splits!r}: the source {config.source!r} has {known}")
    for plane in (plane for plane in config.planes if plane not in source.planes):
        known = ", ".join(source.planes) or "none"
        raise UsageError(f"unknown plane {plane!r}: the source {config.source!r} has {known}; change or omit --planes")
    if not 0 <= config.holdout < 1:
        raise UsageError(f"holdout is {config.holdout}: it must be at least 0 and less than 1")
    least = {"shard_bytes": 1, "mask_size_px": 2, "mask_canvas_px": 2, "masks_per_family": 0}
    for name, minimum in least.items():
        value = getattr(config, name)
        if value < minimum:
            raise UsageError(f"{name} is {value}: it must be at least {minimum}")
    check_masks(config, plan.mask_files)
    # Check the URIs.
    if f"{plan.out}/".startswith(f"{plan.root.rstrip('/')}/"):
        raise UsageError(f"--out {plan.out} lies under --root {plan.root}: the source would list its own shards")
    if not storage.exists(plan.root):
        raise UsageError(f"no folder or archive at {plan.root}: give the dataset's root with --root")
    return plan


def _claim(plan: Plan) -> Plan:
    """The plan as it was begun, after a claim on the URI; raises UsageError where it differs from what was begun."""
    change = "--add" if plan.layer else "first build"
    asked = {"change": change, "recipe": plan.config.as_json(), "seed": plan.seed, "root": plan.root}
    if not plan.layer:
        _refuse_lost_record(plan)
    there = claim_workspace(plan.at(), asked)
    plan = _adopt_decode_check(plan, there)
    _refuse_difference(plan, there, **({} if is_movable(plan) else {"root": plan.root}))
    refuse_changed_root(plan)
    return plan


def _refuse_lost_record(plan: Plan) -> None:
    """Raise UsageError for a dataset that has lost its record: a build would prune its added layers as leftovers.

    An unfinished build has a claim; its list of shards is the last file before the record.
    """
    if storage.exists(plan.at(CLAIM)) or not storage.exists(plan.out):
        return
    _, files = next(storage.list_folders(plan.out))
    lists = [name for name, _ in files if is_shards_file(name)]
    if lists and not _is_committed(plan):
        raise UsageError(
            f"{plan.out} holds {lists[0]}, the list of shards of a dataset, but no dataset.json: rebuild it with "
            f"`lacuna verify {plan.out} --rebuild`, or give another --out"
        )


def _adopt_decode_check(plan: Plan, record: dict[str, Any]) -> Plan:
    """The plan without the check of pixels where the record's dataset was begun without it.

    The check was not always the default, so it must not refuse a dataset that is older.
    """
    check = plan.config.decode_check and DatasetConfig.from_json(record["recipe"]).decode_check
    return replace(plan, config=replace(plan.config, decode_check=check))


def _refuse_difference(plan: Plan, record: dict[str, Any], **more: str) -> None:
    """Raise UsageError where a record has another config, seed, or further value.

    A field of the config that is younger than the record has its default there.
    """
    there = {**record, **DatasetConfig.from_json(record["recipe"]).as_json()}
    for name, value in {"seed": plan.seed, **more, **plan.config.as_json()}.items():
        if there.get(name) != value:
            raise UsageError(
                f"{plan.out} is being or was built with {name} = {there.get(name)!r}, not {value!r}: give the same "
                f"settings again or another --out. To abandon an unfinished build, delete {plan.at()}"
            )


def run_step(what: str, task: Callable[..., Any], arguments: list[tuple[Any, ...]], progress: Progress) -> list[Any]:
    """Results of a step's tasks, in the order in which they end."""
    return list(_task_results(what, task, arguments, progress))


def copy_shards(
    what: str, task: CopyShard, arguments: list[tuple[Any, ...]], progress: Progress, stats: BuildStats
) -> tuple[ShardRecord, ...]:
    """Shards from tasks that write them out of the shards of a dataset, their first argument."""
    shards = []
    for shard, cost in _task_results(what, _copy_shard, [(task, *more) for more in arguments], progress):
        shards.append(shard)
        stats.add_cost(cost)
    stats.num_cores = count_cores()
    return tuple(shards)


def _copy_shard(task: CopyShard, dataset: Dataset, *more: Any) -> tuple[ShardRecord, Cost]:
    stopwatch = Stopwatch()
    with stopwatch.measure("copying"):
        shard = task(dataset, *more)
    return shard, Cost(stopwatch.seconds, shard.num_samples, estimate_copy_seconds(dataset.uri, shard))


def _task_results(
    what: str, task: Callable[..., Any], arguments: list[tuple[Any, ...]], progress: Progress
) -> Iterator[Any]:
    progress(what, 0, len(arguments))
    for done, result in enumerate(run_tasks(task, arguments), 1):
        yield result
        progress(what, done, len(arguments))


def _commit(plan: Plan, layout: Layout, shards: tuple[ShardRecord, ...], base: Dataset | None) -> Dataset:
    """Commit a layer: check its ledger, then write its records, the commit record last."""
    if base is None and _is_committed(plan):
        return _open_committed(plan, layout.root)  # by another builder; it is never replaced
    # Refuse a ledger that does not balance, and too many rejections.
    ledger = sum_ledger(shards)
    if ledger["num_inputs"] != layout.num_files:
        raise RuntimeError(
            f"the ledger of {plan.out} does not balance: {layout.num_files} files, {ledger}; nothing was committed"
        )
    _refuse_rejections(plan, layout, shards, ledger, is_first=base is None)
    # Leave the dataset as it is where the layer brings no photo.
    if base and not ledger["num_written"]:
        _withdraw(plan, (name for shard in shards for name in (shard.file, shard.table)))
        remove_workspace(plan.out, plan.base)
        return base
    # Describe all layers and commit them.
    described: dict[str, Any] = {"num_shards": layout.num_shards, "num_absent": layout.num_absent}
    if base is None and layout.root is not None:
        described["root"] = layout.root
    layers = [*(base.layers if base else ()), described | {"absent": publish_absent(plan, layout)}]
    both = (*(base.shards if base else ()), *shards)
    dataset = commit_dataset(describe_dataset(plan.out, plan.config.as_json(), plan.seed, layers, both), base)
    if base is None:
        return _open_committed(plan, layout.root)
    remove_workspace(plan.out, plan.base)
    return dataset


def _refuse_rejections(
    plan: Plan, layout: Layout, shards: tuple[ShardRecord, ...], ledger: dict[str, int], is_first: bool
) -> None:
    """Raise UsageError where too many photos were rejected, or a first layer holds none."""
    written, rejected = ledger["num_written"], ledger["num_rejected"]
    num_masks = sum(shard.num_masks for shard in shards)
    num_apart = num_masks + sum(shard.num_system_files for shard in shards)
    too_many = rejected - num_apart > max(10, plan.config.max_reject_share * (layout.num_files - num_apart))
    if too_many or (is_first and not written):
        masks = f"; {num_masks} look like masks, which --masks-as-photos takes for photos" if num_masks else ""
        rows = read_table(plan.out, max(shards, key=lambda s: s.num_rejected)).to_pylist()
        most = Counter(row["reason"] for row in rows if row["outcome"] == "rejected").most_common(1)
        reason = most[0][0] if most else "none is a new photo"
        raise UsageError(
            f"{rejected} of {layout.num_files} files under {plan.root} were rejected, {written} written; nothing was "
            f"committed. Most often: {reason}{masks}; all reasons are in {plan.out}/tables"
        )
