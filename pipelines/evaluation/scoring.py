"""Scores of filled pairs: a row for each pair, and features of pictures for the metrics of sets.

In: pairs and their fills. Out: rows with every metric of a pair, and features in the order of the rows. Both depend on
the pairs alone, so chunks that are scored anywhere can be laid end to end.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.metrics import REGISTRY, measure_pairs
from pipelines.evaluation.metrics.names import Kind
from pipelines.evaluation.metrics.networks import MetricNetworks, load_metric_networks, measure_diversity
from pipelines.evaluation.metrics.sets import measure_sets
from pipelines.evaluation.models import Pictures
from pipelines.evaluation.pairs import Pairs
from pipelines.evaluation.protocol import EvalProtocol, list_bins
from pipelines.evaluation.scorecard import ALL, SetScores, name_pair
from pipelines.masks.bins import find_bin, hole_ratio
from pipelines.records import JobError, UsageError

BEST_BY: Final = "psnr_hole"
"""The metric by which one of several fills of a pair is chosen."""
_POOLED: Final = ("mse_hole", "mse_image")
"""Columns besides the protocol's metrics: a pooled PSNR is made of them."""
Features = NDArray[np.float32]


@dataclass
class ChunkScores:
    """Rows of some pairs, and features of their fills and photos."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    fills: dict[str, list[Features]] = field(default_factory=dict)
    """Features of the fills by network, in the order of the rows."""
    photos: dict[str, dict[str, Features]] = field(default_factory=dict)
    """Features of the photos by network and key."""

    @classmethod
    def merge(cls, parts: "Iterable[ChunkScores]") -> "ChunkScores":
        """Parts laid end to end."""
        whole = cls()
        for part in parts:
            whole.rows += part.rows
            for network in part.fills:
                whole.fills.setdefault(network, []).extend(part.fills[network])
                whole.photos.setdefault(network, {}).update(part.photos[network])
        return whole


def choose_metrics(protocol: EvalProtocol) -> tuple[EvalProtocol, list[str]]:
    """The protocol with the metrics whose weights are at hand, and notes on those that are left out.

    Raises UsageError for an unknown metric or one of `protocol.metrics` whose weights are missing.
    """
    refuse_unknown_metrics(protocol)
    if (diverse := list_metrics(protocol, "fills")) and protocol.num_fills < 2:
        raise UsageError(
            f"{diverse[0]} compares fills of a pair, there is one: give --num-fills to a network that draws"
        )
    load_networks(protocol.metrics)
    names, notes = list(protocol.metrics), []
    for alternatives in protocol.with_weights:
        chosen = next((name for name in alternatives if _has_weights(name)), None)
        if chosen is None or chosen != alternatives[0]:
            instead = f"{chosen} is measured instead, which no paper's figure compares with" if chosen else "left out"
            notes.append(f"{alternatives[0]} of the protocol {protocol.name} needs weights that are missing: {instead}")
        names += [chosen] if chosen and chosen not in names else []
    return replace(protocol, metrics=tuple(names), with_weights=()), notes


def refuse_unknown_metrics(protocol: EvalProtocol) -> None:
    """Raise UsageError for a metric that is none, with the nearest names."""
    for name in protocol.metrics:
        if name not in REGISTRY:
            near = get_close_matches(name, REGISTRY, n=6, cutoff=0.3) or list(protocol.metrics[:6])
            raise UsageError(f"unknown metric {name!r}: the nearest are {', '.join(near)}; docs/metrics.md has all")


def _has_weights(name: str) -> bool:
    try:
        load_networks((name,))
    except UsageError:
        return False
    return True


@lru_cache(maxsize=4)
def load_networks(names: tuple[str, ...]) -> MetricNetworks:
    """Networks of the metrics, kept for the next chunk; raises UsageError for a missing file of weights."""
    return load_metric_networks(names, "cpu")


def score_pairs(
    pairs: Pairs,
    fills: Pictures,
    protocol: EvalProtocol,
    baselines: Mapping[str, Pictures],
    several: Sequence[Pictures] = (),
) -> ChunkScores:
    """Scores of the pairs' fills and of the fills of each baseline; `several` are all fills that were drawn of each.

    Raises JobError naming a pair without a score.
    """
    names = list_metrics(protocol, "pair")
    columns = _measure(pairs, fills, [*_POOLED, *names], protocol) | _measure_diversity(several, protocol)
    same = dict.fromkeys(list_metrics(protocol, "fills"), np.zeros(len(fills)))  # a baseline always fills alike
    beside = {name: _measure(pairs, pictures, names, protocol) | same for name, pictures in baselines.items()}
    rows = []
    for i, (key, spec, mask) in enumerate(zip(pairs.keys, pairs.specs, pairs.masks, strict=True)):
        place = {"key": key, "recipe": spec, "family": spec.split(" ")[0], "bin": find_bin(mask)}
        size = {"ratio": hole_ratio(mask), "height_px": mask.shape[0], "width_px": mask.shape[1]}
        scores = {name: float(column[i]) for name, column in columns.items()}
        others = {name: {m: float(c[i]) for m, c in measured.items()} for name, measured in beside.items()}
        rows.append({**place, **size, **scores, "baselines": others})
    return ChunkScores(rows, *_compute_features(pairs, fills, protocol))


def list_metrics(protocol: EvalProtocol, *kinds: Kind) -> list[str]:
    """Names of the protocol's metrics of these kinds."""
    return [name for name in protocol.metrics if REGISTRY[name].kind in kinds]


def _measure_diversity(several: Sequence[Pictures], protocol: EvalProtocol) -> dict[str, NDArray[np.float64]]:
    """Diversity of the fills of each pair, N by name; nothing where no metric asks for it."""
    names = list_metrics(protocol, "fills")
    return measure_diversity(np.stack(several), names, load_networks(protocol.metrics)) if names else {}


def _measure(pairs: Pairs, fills: Pictures, names: list[str], protocol: EvalProtocol) -> dict[str, NDArray[np.float64]]:
    networks = load_networks(protocol.metrics)
    try:
        return measure_pairs(pairs.images, pairs.masks, fills, names, networks)
    except UsageError:
        for i, pair in enumerate(zip(pairs.keys, pairs.specs, strict=True)):
            try:
                measure_pairs(pairs.images[i : i + 1], pairs.masks[i : i + 1], fills[i : i + 1], names, networks)
            except UsageError as fault:
                raise JobError(f"{name_pair(pair)} has no score: {fault}") from None
        raise


def _list_set_networks(protocol: EvalProtocol) -> list[str]:
    """Names of the networks whose features the protocol's metrics of sets compare."""
    return sorted({str(REGISTRY[name].network) for name in list_metrics(protocol, "set")})


def _compute_features(
    pairs: Pairs, fills: Pictures, protocol: EvalProtocol
) -> tuple[dict[str, list[Features]], dict[str, dict[str, Features]]]:
    """Features of fills in order, and of each photo once by its key, by network."""
    networks, of_fills, of_photos = load_networks(protocol.metrics), {}, {}
    first = {key: i for i, key in reversed(list(enumerate(pairs.keys)))}
    for name in _list_set_networks(protocol):
        of_fills[name] = list(networks.compute_features(name, fills))
        photos = networks.compute_features(name, pairs.images[list(first.values())])
        of_photos[name] = dict(zip(first, photos, strict=True))
    return of_fills, of_photos


def score_sets(scores: ChunkScores, protocol: EvalProtocol) -> SetScores:
    """Metrics of sets over all pairs, the protocol's columns and mask families; those with two pairs or more."""
    names = list_metrics(protocol, "set")
    found: SetScores = {name: {} for name in names}
    for group, index in _list_groups(scores.rows, protocol):
        keys = list(dict.fromkeys(scores.rows[i]["key"] for i in index))
        if len(keys) < 2:
            continue
        fake = {network: np.stack([features[i] for i in index]) for network, features in scores.fills.items()}
        for name in names:  # a discriminative score pairs each fill with its photo, others take a photo once
            wanted = [scores.rows[i]["key"] for i in index] if "_ids_" in name else keys
            real = {network: np.stack([features[k] for k in wanted]) for network, features in scores.photos.items()}
            found[name][group] = measure_sets([name], real, fake)[name]
    return found


def describe_sets(scores: ChunkScores) -> list[str]:
    """Say where metrics of sets rest on fewer pictures than they have features, or on too few for any."""
    notes = []
    for network, features in scores.fills.items():
        photos, width = len(scores.photos[network]), features[0].shape[0]
        if photos < 2:
            notes.append(f"metrics of sets by {network} need two photos or more: left out")
        elif photos < width:
            notes.append(
                f"metrics of sets by {network} rest on {photos} photos, fewer than its {width} features: compare them "
                "on the same pairs only"
            )
    return notes


def _list_groups(rows: list[dict[str, Any]], protocol: EvalProtocol) -> Iterator[tuple[str, list[int]]]:
    """Yield the names of groups of pairs and the numbers of their rows."""
    yield ALL, list(range(len(rows)))
    for column in protocol.columns:
        bins = list_bins(column)
        yield column, [i for i, row in enumerate(rows) if row["bin"] in bins]
    for family in sorted({row["family"] for row in rows}) if protocol.by_family else ():
        yield family, [i for i, row in enumerate(rows) if row["family"] == family]
