"""The gate before the alias `champion`: moved only to a version that is better on the same pairs, and back again.

In: two registered versions with their scorecards. Out: a `Verdict`, stored on the challenger with its figures, seed and
margins, so that anyone can replay the decision. A first version has no champion to beat: it must reach the classical
methods that were scored on the same pairs. An operator can force a judgment; nothing forces what cannot be judged:
damaged files, scores that are not finite or lack the baselines, unlike passports.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from infra.tracking import Tracking, Version
from pipelines.evaluation.comparison import Comparison, compare
from pipelines.evaluation.scorecard import ALL, BASELINES, Scorecard, load_scorecard
from pipelines.records import CorruptDataError, UsageError
from pipelines.registry.package import PASSPORT_TAG, SCORES_TAG, WEIGHTS_TAG, hash_scores
from pipelines.versions import fetch_version

CHAMPION: Final = "champion"
VERDICT_TAG: Final = "lacuna.verdict"
PREVIOUS_TAG: Final = "lacuna.previous_champion"
METRIC: Final = "psnr_hole"
MARGIN_DB: Final = 0.1
"""No bin may be worse than this with the confidence of the comparison."""
MAX_REASON_CHARACTERS: Final = 500


@dataclass(frozen=True)
class Verdict:
    """Whether a version became champion, and why."""

    promoted: bool
    reason: str
    champion: str | None
    """The version that was compared with, None for the first one."""
    comparison: Comparison | None
    score: float | None = None
    """The version's own mean of METRIC over all pairs, in dB."""
    baselines: Mapping[str, float] = field(default_factory=dict)
    """That of each classical method on the same pairs, by name."""
    forced: str | None = None
    """The operator's reason, where the version is champion against the gate's judgment."""

    def as_json(self) -> dict[str, Any]:
        """Fields as strict JSON has them: null for a number that is not finite."""
        fields: dict[str, Any] = _without_non_finite(asdict(self))
        return fields


def _without_non_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_non_finite(v) for name, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def promote(name: str, number: str, tracking: Tracking, force: str | None = None) -> Verdict:
    """Judge the version against the champion and move the alias if it is better, or for the reason in `force`.

    The champion itself gets the verdict by which it is champion. Raises FileNotFoundError for an unknown version,
    CorruptDataError where its files are not those registered, UsageError where the scores cannot be judged, `force` is
    no reason or another promotion came in between.
    """
    if force is not None and not 0 < len(force.strip()) <= MAX_REASON_CHARACTERS:
        raise UsageError(f"--force is {force[:40]!r}: give the reason, in 1 to {MAX_REASON_CHARACTERS} characters")
    challenger, champion = tracking.get_version(name, number), tracking.find_alias(name, CHAMPION)
    scores = _scores_of(challenger, tracking)
    if champion is not None and champion.number == number:
        return _confirm(champion, scores, tracking, force)
    verdict = judge_first(scores) if champion is None else _judge_challenger(challenger, champion, scores, tracking)
    verdict = _complete(verdict, scores, force)
    _store(tracking, challenger, verdict)
    if verdict.promoted:
        tracking.tag_version(challenger, {PREVIOUS_TAG: champion.number if champion else ""})
        try:
            _move(tracking, challenger, champion)
        except UsageError as fault:
            _store(tracking, challenger, replace(verdict, promoted=False, reason=f"{verdict.reason}; {fault}"))
            raise
    return verdict


def _complete(verdict: Verdict, scores: Scorecard, force: str | None) -> Verdict:
    """The verdict with the version's means; one that does not pass is turned by the reason in `force`."""
    verdict = replace(verdict, score=scores.mean(METRIC), baselines=_baseline_means(scores))
    if force is None or verdict.promoted:
        return verdict
    return replace(verdict, promoted=True, reason=f"forced: {force} ({verdict.reason})", forced=force)


def _store(tracking: Tracking, version: Version, verdict: Verdict) -> None:
    tracking.tag_version(version, {VERDICT_TAG: json.dumps(verdict.as_json(), sort_keys=True, allow_nan=False)})


def _confirm(champion: Version, scores: Scorecard, tracking: Tracking, force: str | None) -> Verdict:
    """The stored verdict by which the version is champion; without such a one it does not pass but by `force`."""
    stored = json.loads(champion.tags.get(VERDICT_TAG, "{}"))
    if stored.get("promoted"):
        facts = {name: stored[name] for name in ("score", "baselines", "forced") if name in stored}
        return Verdict(True, stored["reason"], stored["champion"], None, **facts)
    last = stored.get("reason", "none")
    words = f"it is champion by an alias moved by hand, or by a rollback; the gate's last verdict: {last}"
    verdict = _complete(Verdict(False, words, None, None), scores, force)
    if verdict.promoted:
        _store(tracking, champion, verdict)
    return verdict


def judge_first(card: Scorecard) -> Verdict:
    """Judge a version without a champion: its mean must reach that of every baseline.

    Raises UsageError for a card without baselines.
    """
    means = _baseline_means(card)
    missing = [name for name in BASELINES if name not in means]
    if missing:
        raise UsageError(
            f"the scores are of an older version and lack {' and '.join(missing)}, which a first version must reach: "
            "evaluate again with another --out, and register again"
        )
    below = _below(card)
    if below:
        return Verdict(False, below, None, None)
    figures = ", ".join(f"{name.title()} {mean:.2f}" for name, mean in means.items())
    return Verdict(True, f"the first version: {card.mean(METRIC):.2f} dB in the hole ({figures})", None, None)


def _judge_challenger(challenger: Version, champion: Version, scores: Scorecard, tracking: Tracking) -> Verdict:
    """Verdict on a version beside a champion; says where it is below a baseline all the same."""
    own = challenger.tags[WEIGHTS_TAG] == champion.tags[WEIGHTS_TAG]
    if own and _newly_measured(challenger, champion):
        return Verdict(True, "the champion's own weights, scored anew", champion.number, None)
    try:
        theirs = _scores_of(champion, tracking)
    except (CorruptDataError, UsageError) as fault:
        if own:  # the way on where a champion is damaged, or its record of a kind that is refused by now
            return Verdict(True, f"the champion's own weights, registered anew: {fault}", champion.number, None)
        words = f"{fault}; register the champion's checkpoint again and promote that version first"
        raise type(fault)(words) from None
    verdict, below = judge(compare(scores, theirs, METRIC), champion.number), _below(scores)
    return replace(verdict, reason=f"{verdict.reason}; {below}") if below else verdict


def _below(card: Scorecard) -> str | None:
    """Words for the card's mean and that of the best baseline, where this one is higher."""
    score, means = card.mean(METRIC), _baseline_means(card)
    best = max(means, key=lambda name: means[name], default=None)
    if best is None or score >= means[best]:
        return None
    return f"{score:.2f} dB in the hole, {best.title()} has {means[best]:.2f}"


def _baseline_means(card: Scorecard) -> dict[str, float]:
    return {name: scores[METRIC][ALL].mean for name, scores in card.baselines.items()}


def _newly_measured(challenger: Version, champion: Version) -> bool:
    """Whether the same weights were scored again under another passport: how a gate goes on after an upgrade."""
    return challenger.tags.get(PASSPORT_TAG) != champion.tags.get(PASSPORT_TAG)


def judge(comparison: Comparison, champion: str) -> Verdict:
    """Better overall with confidence, and no bin worse than the margin with confidence."""
    unsure = [name for name, i in {ALL: comparison.overall, **comparison.bins}.items() if not i.is_finite]
    if unsure:
        return Verdict(False, f"not judged: the gain in bin {unsure[0]} is not a finite number", champion, comparison)
    worse = [name for name, interval in comparison.bins.items() if interval.high < -MARGIN_DB]
    overall = comparison.overall
    figures = f"{overall.gain:+.2f} dB {comparison.metric} [{overall.low:+.2f}, {overall.high:+.2f}]"
    if overall.low <= 0:
        return Verdict(False, f"not better with confidence: {figures}", champion, comparison)
    if worse:
        return Verdict(False, f"better overall, {figures}, but worse in bin {worse[0]}", champion, comparison)
    return Verdict(True, f"better: {figures}", champion, comparison)


def rollback(name: str, tracking: Tracking) -> Version:
    """Points the alias back at the champion before; raises UsageError where there is none."""
    champion = tracking.find_alias(name, CHAMPION)
    previous = champion.tags.get(PREVIOUS_TAG) if champion else None
    if champion is None or not previous:
        raise UsageError(f"model {name!r} has no champion before the present one: nothing to roll back to")
    target = tracking.get_version(name, previous)
    _scores_of(target, tracking)
    _move(tracking, target, champion)
    return target


def _move(tracking: Tracking, version: Version, expected: Version | None) -> None:
    """Moves the alias if it still is where the decision saw it, and reads it back.

    MLflow has no compare-and-set: two promoters within the same few milliseconds can both pass.
    """
    present = tracking.find_alias(version.name, CHAMPION)
    if (present and present.number) != (expected and expected.number):
        raise UsageError(f"the champion of {version.name!r} changed meanwhile: look at it and promote again")
    tracking.move_alias(version.name, CHAMPION, version.number)
    after = tracking.find_alias(version.name, CHAMPION)
    if after is None or after.number != version.number:
        raise UsageError(f"another promotion of {version.name!r} came in between: look at the champion, then try again")


def _scores_of(version: Version, tracking: Tracking) -> Scorecard:
    """Scorecard of a version; what is wrong with it names the version, not the folder that it was copied to."""
    try:
        return _checked_scores(version, tracking)
    except (CorruptDataError, UsageError) as fault:
        raise fault if version.uri in str(fault) else type(fault)(f"{version.uri}: {fault}") from None


def _checked_scores(version: Version, tracking: Tracking) -> Scorecard:
    """The scorecard a version carries; all its files must be those that were registered."""
    with TemporaryDirectory() as scratch:
        card = load_scorecard(str(fetch_version(version, tracking, Path(scratch)) / "artifacts"))
    if hash_scores(card) != version.tags.get(SCORES_TAG):
        raise CorruptDataError(f"the scores of {version.uri} are not those registered: register them again")
    return card
