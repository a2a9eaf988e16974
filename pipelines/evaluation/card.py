"""Making, finding and publishing of scorecards: what evaluations of datasets and of result folders share.

In: scores of all pairs and the settings behind them. Out: a checked `Scorecard`, stored with its page.
"""

import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Final

from infra import storage
from pipelines.evaluation.metrics import REGISTRY
from pipelines.evaluation.protocol import EvalProtocol
from pipelines.evaluation.scorecard import (
    BASELINES,
    SCORES_FILE,
    Scorecard,
    find_non_finite,
    hash_pairs,
    list_pairs,
    load_scorecard,
    save_scorecard,
)
from pipelines.evaluation.scores_page import Shown, choose_shown, render_page
from pipelines.evaluation.scoring import ChunkScores, list_metrics, score_sets
from pipelines.masks.bins import BINS
from pipelines.records import JobError, UsageError, canonical_json, find_difference, sha256_hex

Progress = Callable[[int, int], None]
PAGE_FILE: Final = "scores.html"
_QUANTIZATIONS: Final = {"round": "uint8, rounded and clamped", "truncate": "uint8, truncated and clamped"}


def find_card(
    identity: Mapping[str, str], settings: Mapping[str, Any], protocol: EvalProtocol, out: str
) -> Scorecard | None:
    """The card at `out`, or None; raises UsageError naming the first field in which it is not the requested one."""
    if not storage.exists(storage.join(out, SCORES_FILE)):
        return None
    card = load_scorecard(out)
    there = {"model": card.model, **card.passport}
    wanted = {"model": dict(identity), **settings, **_describe_protocol(protocol)}
    asked = dict.fromkeys(there.get("asking", ())) | wanted["asking"]  # a field that was given there and is not here
    difference = find_difference(there, wanted | {"asking": asked})
    if difference is not None:
        name, old, new = difference
        raise UsageError(f"{out} holds scores with {name} = {old!r}, not {new!r}: use another --out")
    return card


def make_card(
    identity: dict[str, str], settings: Mapping[str, Any], protocol: EvalProtocol, scores: ChunkScores
) -> Scorecard:
    """Checked scorecard of all pairs; raises JobError naming the first score that is not finite."""
    facts = {
        "pairs_sha256": hash_pairs(list_pairs(scores.rows), protocol.size),
        "num_pairs": len(scores.rows),
        "num_photos": len({row["key"] for row in scores.rows}),
        "quantisation": _QUANTIZATIONS[protocol.quantization],
        "regions": "hole: mask pixels of the inpainted picture; image: all its pixels",
        "bins": list(BINS),
        "sets": {name: REGISTRY[name].description for name in list_metrics(protocol, "set")},
        "mean": "over pairs",
        "columns": list(protocol.columns),
    }
    sets = score_sets(scores, protocol)
    card = Scorecard(identity, {**settings, **_describe_protocol(protocol), **facts}, scores.rows, sets)
    if (problem := find_non_finite(card)) is not None:
        raise JobError(f"scores of {identity['model']} are not stored: {problem}")
    return card


def publish_card(card: Scorecard, out: str, draw: Callable[[list[dict[str, Any]]], list[Shown]]) -> None:
    """Publish the page of a card and then the card; `draw` makes the pictures of some of its rows."""
    chosen = choose_shown(card.rows)
    pictures = draw(list(chosen.values()))
    shown = zip(chosen, chosen.values(), pictures, strict=True)
    page = render_page(card, {title: (row, picture) for title, row, picture in shown})
    storage.publish(storage.join(out, PAGE_FILE), page.encode())
    save_scorecard(card, out)


def list_baselines(model: str) -> tuple[str, ...]:
    """Names of the baselines that are scored with the model: all but the model itself."""
    return tuple(name for name in BASELINES if name != model)


def _describe_protocol(protocol: EvalProtocol) -> dict[str, Any]:
    """Fields of the passport that follow from the protocol and the installation."""
    asking = protocol.as_json()
    return {
        "asking": asking,
        "protocol_sha256": sha256_hex(canonical_json(asking)),
        "metrics": {name: REGISTRY[name].description for name in list_metrics(protocol, "pair", "fills")},
        "versions": _list_versions(),
    }


def _list_versions() -> dict[str, str]:
    """Versions that decide digits; of Python's without the patch level, which decides none."""
    packages = ("torch", "opencv-python-headless", "numpy", "scikit-image")
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python} | {p: version(p).partition("+")[0] for p in packages}
