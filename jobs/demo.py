"""`lacuna demo`: the whole way once, from photos to a promoted model, by the verbs that users have.

Shards, a brief training whose result is the first version, more training, and a second version. The first to reach
Telea and Navier-Stokes becomes champion, and the second must beat it on the same held-out pairs. Where neither reaches
them the first is promoted by force, with that as the reason, so that a demo ends with a champion. Every step finds
what an interrupted demo left and goes on; a finished demo only tells again.
"""

import json
import os
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from infra import storage
from infra.cluster import connect_ray
from infra.lock import lock_folder
from infra.settings import apply_defaults, tracking_uri
from infra.tracking import Tracking, Version
from jobs import evaluate, promote, register, shard, train
from jobs.cli import run_as_module
from jobs.faults import VerbError
from jobs.progress import say
from pipelines.data.config import DatasetConfig
from pipelines.evaluation.report import render_fills
from pipelines.evaluation.scorecard import ALL, Scorecard, load_scorecard
from pipelines.manifest import open_dataset
from pipelines.records import UsageError, canonical_json, sha256_hex
from pipelines.registry.promotion import CHAMPION

WORKERS: Final = 2
SIZE_PX: Final = 64
NEEDED_BYTES: Final = 500_000_000
REPORT_FILE: Final = "demo.json"
FORCED: Final = "neither version of this brief demo reaches the classical methods"
"""Reason of a promotion without which the demo would end without a champion."""


@dataclass(frozen=True)
class Course:
    """What a demo builds and trains on a source."""

    shards: DatasetConfig
    recipe: str
    first_images: int
    """Clock of the first version."""


def course(source: str) -> Course:
    """Faces are cut in the middle, other photos anywhere; the photos of packages say themselves what is held out."""
    if source == "celeba":
        return Course(
            DatasetConfig("celeba", holdout=0.1, mask_size_px=SIZE_PX, shard_bytes=4 << 20), "deepgin-faces", 1600
        )
    few = source == "packages"
    holdout, masks = (0.0, 8) if few else (0.1, 1)
    shards = DatasetConfig(
        source,
        resize="short-side",
        size_px=256,
        holdout=holdout,
        masks_per_family=masks,
        mask_size_px=SIZE_PX,
        shard_bytes=1 << 20,
    )
    return Course(shards, "deepgin-demo", 80)


@dataclass(frozen=True)
class Arguments:
    """Photos to a promoted model, in a few minutes of two CPU cores. The same command again goes on or tells again."""

    source: str = "packages"
    """The dataset's layout; `packages` are the photos that come with our dependencies."""
    root: str | None = None
    """Folder of the source; `packages` needs none."""
    out: str | None = None
    """Folder for everything that is made; demo/<digest of the configuration> if not given."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Goes the whole way, or tells the end of one that was gone."""
    plan = course(arguments.source)
    sources = shard.Arguments(plan.shards, "", arguments.root)
    root = shard.resolve_root(sources)
    if not storage.exists(root):
        raise UsageError(f"no folder at {root}: give the dataset's root with --root")
    digest = sha256_hex(canonical_json([asdict(plan), str(Path(root).absolute())]))[:12]
    return walk(plan, root, _folder(f"demo/{digest}" if arguments.out is None else arguments.out))


def _folder(out: str) -> Path:
    """The folder for everything that is made; raises UsageError for one on a store."""
    folder = storage.to_writable_folder(out)
    if folder is None:
        raise UsageError(f"--out is {out}: all of a demo, its MLflow database too, is in one local folder: name that")
    return folder


def walk(plan: Course, root: str, out: Path) -> dict[str, Any]:
    """Goes the course in the folder, or tells the end of one that was gone there; one at a time."""
    with lock_folder(str(out)):
        if (out / REPORT_FILE).exists():
            shard.run(shard.Arguments(plan.shards, str(out / "data"), root))  # refused where the root is another
        else:
            _refuse_full_disk(out)
            report = _Demo(plan, root, out).go()
            storage.publish(str(out / REPORT_FILE), canonical_json(report))
        report = json.loads((out / REPORT_FILE).read_bytes())
        _tell(report, out)
        return dict(report)


def _refuse_full_disk(out: Path) -> None:
    space = os.statvfs(out)
    free = space.f_bavail * space.f_frsize
    if free < NEEDED_BYTES:
        raise OSError(
            f"only {free >> 20} MB free at {out}: a demo needs {NEEDED_BYTES >> 20} MB; free some or use --out"
        )


class _Demo:
    """The steps of one demo, each of which may have been done before."""

    def __init__(self, plan: Course, root: str, out: Path) -> None:
        self._plan, self._root, self._out = plan, root, out
        self._name = f"lacuna-{plan.shards.source}"
        self._data, self._run = str(out / "data"), str(out / "run")
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{out / 'mlflow.db'}"

    def go(self) -> dict[str, Any]:
        """All steps in order; returns the report."""
        apply_defaults()
        with connect_ray(WORKERS):
            say("1/5 shards")
            shard.run(shard.Arguments(self._plan.shards, self._data, self._root))
            open_dataset(self._data).split("val")
            tracking = Tracking(tracking_uri())
            say("2/5 a brief training, its result the first version")
            first = self._first_version(tracking)
            if tracking.find_alias(self._name, CHAMPION) is None:
                self._judge(first)
            say("3/5 training on")
            second = self._trained_version(None, "last")
            say("4/5 the last version before the gate")
            verdict = self._judge(second)
            if tracking.find_alias(self._name, CHAMPION) is None:
                self._judge(first, FORCED)
                verdict = self._judge(second)
            say("5/5 pictures")
            return self._report(tracking, verdict)

    def _first_version(self, tracking: Tracking) -> Version:
        """Made only once: a run that has gone on holds the first weights no more, the registry does."""
        versions = tracking.list_versions(self._name)
        return versions[0] if versions else self._trained_version(self._plan.first_images, "first")

    def _trained_version(self, images: int | None, scores: str) -> Version:
        """Trains up to the clock, scores and registers."""
        train.run(train.Arguments(self._plan.recipe, (self._data,), self._run, workers=WORKERS, images=images))
        evaluate.run(evaluate.Arguments(self._run, self._data, self._scores(scores)))
        made = register.run(register.Arguments(self._run, self._scores(scores), self._name))
        return Tracking(tracking_uri()).version(self._name, made["version"])

    def _scores(self, name: str) -> str:
        return str(self._out / "scores" / name)

    def _judge(self, version: Version, force: str | None = None) -> dict[str, Any]:
        """Verdict on a version, which may stay unpromoted."""
        try:
            report = promote.run(promote.Arguments(self._name, version.number, force))
        except VerbError as kept:  # another champion stays, or there is none yet: that too is an end
            say(str(kept))
            report = kept.report
        verdict: dict[str, Any] = report["verdict"]
        return verdict

    def _report(self, tracking: Tracking, verdict: dict[str, Any]) -> dict[str, Any]:
        cards = {name: load_scorecard(self._scores(name)) for name in ("first", "last")}
        champion = tracking.find_alias(self._name, CHAMPION)
        assert champion is not None
        models = {"Telea": "telea", "first version": f"models:/{self._name}/1", "champion": champion.uri}
        picture = self._out / "fills.png"
        storage.publish(str(picture), render_fills(self._data, models))
        means = _means(cards)
        best = "first version" if champion.number == "1" else "last version"
        return {
            "model": self._name,
            "champion_version": champion.number,
            "psnr_hole_champion": round(means[best]["psnr_hole"], 3),
            "psnr_hole_telea": round(means["telea"]["psnr_hole"], 3),
            "num_pairs": cards["last"].passport["num_pairs"],
            "scores": means,
            "verdict": verdict["reason"],
            "forced": self._judge(champion)["forced"],
            "picture": str(picture),
            "tracking_uri": tracking.uri,
        }


def _means(cards: dict[str, Scorecard]) -> dict[str, dict[str, float]]:
    """metric -> mean over all pairs, of each baseline and each version."""
    rows = {**cards["last"].baselines, **{f"{name} version": card.scores for name, card in cards.items()}}
    return {name: {metric: bins[ALL].mean for metric, bins in scores.items()} for name, scores in rows.items()}


def _tell(report: dict[str, Any], out: Path) -> None:
    """The table, the picture and how to open the tracking page."""
    metrics = ("psnr_hole", "ssim_hole", "l1_hole", "psnr_image")
    say(f"\n{report['num_pairs']} held-out pairs  " + " ".join(f"{m:>10}" for m in metrics))
    for name, means in report["scores"].items():
        say(f"{name:<20}  " + " ".join(f"{means[m]:>10.3f}" for m in metrics))
    say(f"\nchampion of {report['model']}: version {report['champion_version']} ({report['verdict']})")
    if report["forced"]:
        say(f"promoted by --force: {report['forced']}")
    say(f"picture:   {report['picture']}")
    mlflow = shlex.quote(str(Path(sys.executable).with_name("mlflow")))
    say(f"runs:      {mlflow} server --port 5000 --backend-store-uri {shlex.quote(report['tracking_uri'])}")
    say("           and open http://127.0.0.1:5000")


if __name__ == "__main__":
    run_as_module("demo")
