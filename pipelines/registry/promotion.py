"""The gate before the alias `champion`: moved only to a version that is better on the same pairs, and back again.

In: two registered versions with their scorecards. Out: a `Verdict`, stored on the challenger with its figures, seed and
margins, so that anyone can replay the decision.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from infra.tracking import Tracking, Version
from pipelines.evaluation.comparison import Comparison, compare
from pipelines.evaluation.evaluate import Scorecard, load_scorecard
from pipelines.records import Damaged, Refused
from pipelines.registry.package import PASSPORT_TAG, SCORES_TAG, WEIGHTS_TAG, scores_digest
from pipelines.versions import fetch_version

CHAMPION: Final = "champion"
VERDICT_TAG: Final = "lacuna.verdict"
PREVIOUS_TAG: Final = "lacuna.previous_champion"
METRIC: Final = "psnr_hole"
MARGIN_DB: Final = 0.1
"""No bin may be worse than this with the confidence of the comparison."""


@dataclass(frozen=True)
class Verdict:
    """Whether a version became champion, and why."""

    promoted: bool
    reason: str
    champion: str | None
    """The version that was compared with, None for the first one."""
    comparison: Comparison | None

    def as_json(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def promote(name: str, number: str, tracking: Tracking) -> Verdict:
    """Judges the version against the champion and moves the alias if it is better.

    Raises FileNotFoundError for an unknown version, Damaged where its files are not those registered, Refused where the
    scores cannot be compared or another promotion came in between.
    """
    challenger, champion = tracking.version(name, number), tracking.aliased(name, CHAMPION)
    if champion is not None and champion.number == number:
        return _stored_verdict(champion)
    scores = _checked_scores(challenger, tracking)
    if champion is None:
        verdict = Verdict(True, "the first version with scores becomes champion", None, None)
    elif challenger.tags[WEIGHTS_TAG] == champion.tags[WEIGHTS_TAG] and _newly_measured(challenger, champion):
        verdict = Verdict(True, "the champion's own weights, scored anew", champion.number, None)
    else:
        verdict = judge(compare(scores, _checked_scores(champion, tracking), METRIC), champion.number)
    tracking.tag_version(challenger, {VERDICT_TAG: json.dumps(verdict.as_json(), sort_keys=True)})
    if verdict.promoted:
        tracking.tag_version(challenger, {PREVIOUS_TAG: champion.number if champion else ""})
        _move(tracking, challenger, champion)
    return verdict


def _newly_measured(challenger: Version, champion: Version) -> bool:
    """Whether the same weights were scored again under another passport: how a gate goes on after an upgrade."""
    return challenger.tags.get(PASSPORT_TAG) != champion.tags.get(PASSPORT_TAG)


def judge(comparison: Comparison, champion: str) -> Verdict:
    """Better overall with confidence, and no bin worse than the margin with confidence."""
    worse = [name for name, interval in comparison.bins.items() if interval.high < -MARGIN_DB]
    overall = comparison.overall
    figures = f"{overall.gain:+.2f} dB {comparison.metric} [{overall.low:+.2f}, {overall.high:+.2f}]"
    if overall.low <= 0:
        return Verdict(False, f"not better with confidence: {figures}", champion, comparison)
    if worse:
        return Verdict(False, f"better overall, {figures}, but worse in bin {worse[0]}", champion, comparison)
    return Verdict(True, f"better: {figures}", champion, comparison)


def rollback(name: str, tracking: Tracking) -> Version:
    """Points the alias back at the champion before; raises Refused where there is none."""
    champion = tracking.aliased(name, CHAMPION)
    previous = champion.tags.get(PREVIOUS_TAG) if champion else None
    if champion is None or not previous:
        raise Refused(f"model {name!r} has no champion before the present one: nothing to roll back to")
    target = tracking.version(name, previous)
    _checked_scores(target, tracking)
    _move(tracking, target, champion)
    return target


def _move(tracking: Tracking, version: Version, expected: Version | None) -> None:
    """Moves the alias if it still is where the decision saw it, and reads it back.

    MLflow has no compare-and-set: two promoters within the same few milliseconds can both pass.
    """
    present = tracking.aliased(version.name, CHAMPION)
    if (present and present.number) != (expected and expected.number):
        raise Refused(f"the champion of {version.name!r} changed meanwhile: look at it and promote again")
    tracking.move_alias(version.name, CHAMPION, version.number)
    after = tracking.aliased(version.name, CHAMPION)
    if after is None or after.number != version.number:
        raise Refused(f"another promotion of {version.name!r} came in between: look at the champion, then try again")


def _checked_scores(version: Version, tracking: Tracking) -> Scorecard:
    """The scorecard a version carries; all its files must be those that were registered."""
    with TemporaryDirectory() as scratch:
        card = load_scorecard(str(fetch_version(version, tracking, Path(scratch)) / "artifacts"))
    if scores_digest(card) != version.tags.get(SCORES_TAG):
        raise Damaged(f"the scores of {version.uri} are not those registered: register them again")
    return card


def _stored_verdict(champion: Version) -> Verdict:
    stored = json.loads(champion.tags.get(VERDICT_TAG, "{}"))
    return Verdict(True, stored.get("reason", "is the champion already"), stored.get("champion"), None)
