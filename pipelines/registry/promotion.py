"""Gate before the alias `champion`: moves it only to a version that is better on the same pairs, and back again.

In: two registered versions with their scorecards. Out: a `Verdict`, stored on the challenger with its figures, seed and
margins, so that anyone can replay the decision. A first version has no champion to beat: it must reach the classical
methods on the same pairs. An operator can force a promotion, but not where no verdict is possible: damaged files,
scores that are not finite or lack the baselines, unlike passports.
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
"""Largest loss allowed in a bin, at the confidence of the comparison."""
MAX_REASON_CHARACTERS: Final = 500


@dataclass(frozen=True)
class Verdict:
    """Whether a version became champion, and why."""

    promoted: bool
    reason: str
    champion: str | None
    """Number of the version that was compared with, None for the first one."""
    comparison: Comparison | None
    score: float | None = None
    """Mean of METRIC of the version over all pairs, in dB."""
    baselines: Mapping[str, float] = field(default_factory=dict)
    """Mean of each classical method on the same pairs, by name, in dB."""
    forced: str | None = None
    """Reason of the operator, where the version is champion against the gate's decision."""

    def as_json(self) -> dict[str, Any]:
        """Fields as strict JSON has them: null for a number that is not finite."""
        fields: dict[str, Any] = _drop_non_finite(asdict(self))
        return fields


def _drop_non_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _drop_non_finite(v) for name, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def promote(name: str, number: str, tracking: Tracking, force: str | None = None) -> Verdict:
    """Verdict on the version against the champion; move the alias if it is better, or for the reason in `force`.

    The champion itself gets the verdict by which it is champion. Raises FileNotFoundError for an unknown version,
    CorruptDataError where its files are not those registered, UsageError where the scores allow no verdict, `force` is
    empty or too long, or another promotion came in between.
    """
    if force is not None and not 0 < len(force.strip()) <= MAX_REASON_CHARACTERS:
        raise UsageError(f"--force is {force[:40]!r}: give the reason, in 1 to {MAX_REASON_CHARACTERS} characters")
    # Read the scores and decide.
    challenger, champion = tracking.get_version(name, number), tracking.find_alias(name, CHAMPION)
    scores = _read_scores(challenger, tracking)
    if champion is not None and champion.number == number:
        return _confirm(champion, scores, tracking, force)
    verdict = judge_first(scores) if champion is None else _judge_challenger(challenger, champion, scores, tracking)
    verdict = _complete(verdict, scores, force)
    # Store the verdict, then move the alias.
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
    """Verdict with the version's means; a negative one is overruled by the reason in `force`."""
    verdict = replace(verdict, score=scores.mean(METRIC), baselines=_compute_baselines(scores))
    if force is None or verdict.promoted:
        return verdict
    return replace(verdict, promoted=True, reason=f"forced: {force} ({verdict.reason})", forced=force)


def _store(tracking: Tracking, version: Version, verdict: Verdict) -> None:
    tracking.tag_version(version, {VERDICT_TAG: json.dumps(verdict.as_json(), sort_keys=True, allow_nan=False)})


def _confirm(champion: Version, scores: Scorecard, tracking: Tracking, force: str | None) -> Verdict:
    """Stored verdict by which the version is champion; without one, a negative verdict unless `force` is given."""
    stored = json.loads(champion.tags.get(VERDICT_TAG, "{}"))
    if stored.get("promoted"):
        facts = {name: stored[name] for name in ("score", "baselines", "forced") if name in stored}
        return Verdict(True, stored["reason"], stored["champion"], None, **facts)
    last = stored.get("reason", "none")
    reason = f"it is champion by an alias moved by hand, or by a rollback; the gate's last verdict: {last}"
    verdict = _complete(Verdict(False, reason, None, None), scores, force)
    if verdict.promoted:
        _store(tracking, champion, verdict)
    return verdict


def judge_first(card: Scorecard) -> Verdict:
    """Verdict on a version without a champion: its mean must reach that of every baseline.

    Raises UsageError for a card without baselines.
    """
    means = _compute_baselines(card)
    missing = [name for name in BASELINES if name not in means]
    if missing:
        raise UsageError(
            f"the scores are of an older version and lack {' and '.join(missing)}, which a first version must reach. "
            "Evaluate again with another --out, and register again"
        )
    below = _describe_better_baseline(card)
    if below:
        return Verdict(False, below, None, None)
    figures = ", ".join(f"{name.title()} {mean:.2f}" for name, mean in means.items())
    return Verdict(True, f"the first version: {card.mean(METRIC):.2f} dB in the hole ({figures})", None, None)


def _judge_challenger(challenger: Version, champion: Version, scores: Scorecard, tracking: Tracking) -> Verdict:
    """Verdict on a version against a champion; its reason also names a baseline that is better."""
    same_weights = challenger.tags[WEIGHTS_TAG] == champion.tags[WEIGHTS_TAG]
    # The same weights under another passport: a gate passes them after an upgrade.
    if same_weights and challenger.tags.get(PASSPORT_TAG) != champion.tags.get(PASSPORT_TAG):
        return Verdict(True, "the champion's own weights, scored again", champion.number, None)
    try:
        theirs = _read_scores(champion, tracking)
    except (CorruptDataError, UsageError) as fault:
        if same_weights:  # the only way on where a champion is damaged or of a refused format
            return Verdict(True, f"the champion's own weights, registered again: {fault}", champion.number, None)
        advice = "Register the champion's checkpoint again and promote that version first"
        raise type(fault)(f"{fault}. {advice}") from None
    verdict, below = judge(compare(scores, theirs, METRIC), champion.number), _describe_better_baseline(scores)
    return replace(verdict, reason=f"{verdict.reason}; {below}") if below else verdict


def _describe_better_baseline(card: Scorecard) -> str | None:
    """Means of the card and of the best baseline in words, None where no baseline is higher."""
    score, means = card.mean(METRIC), _compute_baselines(card)
    best = max(means, key=lambda name: means[name], default=None)
    if best is None or score >= means[best]:
        return None
    return f"{score:.2f} dB in the hole, {best.title()} has {means[best]:.2f}"


def _compute_baselines(card: Scorecard) -> dict[str, float]:
    return {name: scores[METRIC][ALL].mean for name, scores in card.baselines.items()}


def judge(comparison: Comparison, champion: str) -> Verdict:
    """Verdict on a comparison: better overall with confidence, and no bin worse than the margin with confidence."""
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
    """Point the alias back at the previous champion; raises UsageError where there is none."""
    champion = tracking.find_alias(name, CHAMPION)
    previous = champion.tags.get(PREVIOUS_TAG) if champion else None
    if champion is None or not previous:
        raise UsageError(f"model {name!r} has no champion before the present one: the alias stays")
    target = tracking.get_version(name, previous)
    _read_scores(target, tracking)
    _move(tracking, target, champion)
    return target


def _move(tracking: Tracking, version: Version, expected: Version | None) -> None:
    """Move the alias if it is still where the decision saw it, and read it back.

    MLflow has no compare-and-set: two promotions within the same few milliseconds can both pass.
    """
    present = tracking.find_alias(version.name, CHAMPION)
    if (present and present.number) != (expected and expected.number):
        raise UsageError(f"the champion of {version.name!r} changed meanwhile: check it and promote again")
    tracking.move_alias(version.name, CHAMPION, version.number)
    after = tracking.find_alias(version.name, CHAMPION)
    if after is None or after.number != version.number:
        raise UsageError(f"another promotion of {version.name!r} came in between: check the champion, then try again")


def _read_scores(version: Version, tracking: Tracking) -> Scorecard:
    """Scorecard of a version whose files are all those that were registered.

    Raises CorruptDataError or UsageError naming the version, not the folder that it was copied to.
    """
    try:
        with TemporaryDirectory() as scratch:
            card = load_scorecard(str(fetch_version(version, tracking, Path(scratch)) / "artifacts"))
    except (CorruptDataError, UsageError) as fault:
        raise fault if version.uri in str(fault) else type(fault)(f"{version.uri}: {fault}") from None
    if hash_scores(card) != version.tags.get(SCORES_TAG):
        raise CorruptDataError(f"the scores of {version.uri} are not those registered: register them again")
    return card
