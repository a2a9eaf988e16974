"""`lacuna demo`: all steps once, from photos to a promoted model, by the verbs that users have.

Shards, a brief training whose result is the first version, more training, and a second version. The first version that
reaches Telea and Navier-Stokes becomes champion, and a later one must beat it on the same held-out pairs. If neither
reaches them the first is promoted by force, with that as the reason, so that a demo ends with a champion. Every step
continues what an interrupted demo left; a finished demo only shows its report again.
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
from infra.settings import apply_defaults, get_tracking_uri
from infra.tracking import Tracking, Version
from jobs import evaluate, promote, register, shard, train
from jobs.cli import run_as_module
from jobs.faults import VerbError
from jobs.options import URI, Name
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
class DemoConfig:
    """Settings of a demo on a source: dataset, recipe and length of the first training."""

    shards: DatasetConfig
    recipe: str
    first_images: int
    """Images seen by the first version."""


def choose_config(source: str) -> DemoConfig:
    """Settings for a source: faces are cropped at their center, other photos anywhere.

    The source `packages` has its own held-out photos.
    """
    if source == "celeba":
        return DemoConfig(
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
    return DemoConfig(shards, "deepgin-demo", 80)


@dataclass(frozen=True)
class Arguments:
    """Run all steps once, from photos to a promoted model, in a few minutes on two CPU cores.

    The same command continues an interrupted demo, and shows the report of a finished one.
    """

    source: Name = "packages"
    """Layout of the photos, such as folder or celeba; packages are photos that come with our dependencies."""
    root: URI | None = None
    """Folder of the photos; packages needs none."""
    out: URI | None = None
    """Folder for all results; by default demo/DIGEST, with a digest of the settings."""


def check(arguments: Arguments) -> tuple[DemoConfig, str]:
    """Settings of the demo and root of its photos; raises UsageError for an unknown source, or one without a root."""
    config = choose_config(arguments.source)
    return config, shard.resolve_root(shard.Arguments(config.shards, "", arguments.root))


def run(arguments: Arguments) -> dict[str, Any]:
    """Run or continue a demo, or show the report of a finished one."""
    config, root = check(arguments)
    if not storage.exists(root):
        raise UsageError(f"no folder at {root}: give the folder of the photos with --root")
    digest = sha256_hex(canonical_json([asdict(config), str(Path(root).absolute())]))[:12]
    return run_demo(config, root, _resolve_out(f"demo/{digest}" if arguments.out is None else arguments.out))


def _resolve_out(out: str) -> Path:
    """Folder for all results; raises UsageError for one on an object store."""
    folder = storage.to_writable_folder(out)
    if folder is None:
        raise UsageError(f"--out is {out}: give a local folder, as a demo keeps its MLflow database there")
    return folder


def run_demo(config: DemoConfig, root: str, out: Path) -> dict[str, Any]:
    """Run or continue a demo in the folder, or show its report if it is finished; one process at a time."""
    with lock_folder(str(out)):
        if (out / REPORT_FILE).exists():
            shard.run(shard.Arguments(config.shards, str(out / "data"), root))  # refuses another root
        else:
            _refuse_full_disk(out)
            report = _Demo(config, root, out).run()
            storage.publish(str(out / REPORT_FILE), canonical_json(report))
        report = json.loads((out / REPORT_FILE).read_bytes())
        _show(report, out)
        return dict(report)


def _refuse_full_disk(out: Path) -> None:
    space = os.statvfs(out)
    free = space.f_bavail * space.f_frsize
    if free < NEEDED_BYTES:
        raise OSError(
            f"only {free >> 20} MB free at {out}: a demo needs {NEEDED_BYTES >> 20} MB; free some or give another --out"
        )


class _Demo:
    """The steps of one demo, each of which may be done already."""

    def __init__(self, config: DemoConfig, root: str, out: Path) -> None:
        self._config, self._root, self._out = config, root, out
        self._name = f"lacuna-{config.shards.source}"
        self._data, self._run = str(out / "data"), str(out / "run")
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{out / 'mlflow.db'}"

    def run(self) -> dict[str, Any]:
        """Run all steps in order, and return the report."""
        apply_defaults()
        with connect_ray(WORKERS):
            say("1/5 shards")
            shard.run(shard.Arguments(self._config.shards, self._data, self._root))
            open_dataset(self._data).split("val")
            tracking = Tracking(get_tracking_uri())
            say("2/5 brief training of the first version")
            first = self._find_first_version(tracking)
            if tracking.find_alias(self._name, CHAMPION) is None:
                self._judge(first)
            say("3/5 more training")
            second = self._train_version(None, "last")
            say("4/5 comparison of the last version with the champion")
            verdict = self._judge(second)
            if tracking.find_alias(self._name, CHAMPION) is None:
                self._judge(first, FORCED)
                verdict = self._judge(second)
            say("5/5 pictures")
            return self._build_report(tracking, verdict)

    def _find_first_version(self, tracking: Tracking) -> Version:
        """First version from the registry, or trained: a run that has continued no longer holds its weights."""
        versions = tracking.list_versions(self._name)
        return versions[0] if versions else self._train_version(self._config.first_images, "first")

    def _train_version(self, images: int | None, scores: str) -> Version:
        """Train up to `images` images seen, score and register."""
        train.run(train.Arguments(self._config.recipe, (self._data,), self._run, workers=WORKERS, images=images))
        evaluate.run(evaluate.Arguments(model=self._run, data=self._data, out=self._locate_scores(scores)))
        made = register.run(register.Arguments(self._run, self._locate_scores(scores), self._name))
        return Tracking(get_tracking_uri()).get_version(self._name, made["version"])

    def _locate_scores(self, name: str) -> str:
        return str(self._out / "scores" / name)

    def _judge(self, version: Version, force: str | None = None) -> dict[str, Any]:
        """Verdict on a version, promoted or not."""
        try:
            report = promote.run(promote.Arguments(self._name, version.number, force))
        except VerbError as refusal:  # another version stays champion, or there is none yet
            say(str(refusal))
            report = refusal.report
        verdict: dict[str, Any] = report["verdict"]
        return verdict

    def _build_report(self, tracking: Tracking, verdict: dict[str, Any]) -> dict[str, Any]:
        cards = {name: load_scorecard(self._locate_scores(name)) for name in ("first", "last")}
        champion = tracking.find_alias(self._name, CHAMPION)
        assert champion is not None
        models = {"Telea": "telea", "first version": f"models:/{self._name}/1", "champion": champion.uri}
        picture = self._out / "fills.png"
        storage.publish(str(picture), render_fills(self._data, models))
        means = _average_scores(cards)
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


def _average_scores(cards: dict[str, Scorecard]) -> dict[str, dict[str, float]]:
    """Means over all pairs by metric, for each baseline and each version."""
    rows = {**cards["last"].baselines, **{f"{name} version": card.scores for name, card in cards.items()}}
    return {name: {metric: bins[ALL].mean for metric, bins in scores.items()} for name, scores in rows.items()}


def _show(report: dict[str, Any], out: Path) -> None:
    """Show the table of scores, the picture, and how to open the tracking page."""
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
