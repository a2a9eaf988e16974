"""Page of a scorecard for people: one HTML file without anything from outside.

In: a card, and pictures of some of its pairs. Out: HTML with a sentence, tables, bars with intervals by hole ratio, and
the worst, median and best pairs.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final, NamedTuple

import numpy as np

from pipelines.decoding import Picture
from pipelines.evaluation.comparison import MIN_PHOTOS, Interval, bootstrap
from pipelines.evaluation.metrics import REGISTRY
from pipelines.evaluation.scorecard import ALL, Scorecard
from pipelines.evaluation.tables import Table, list_tables
from pipelines.keyed_rng import KeyedRng
from pipelines.pictures import encode_png

_NUM_SHOWN: Final = 3
_SHOWN_BY: Final = "psnr_hole"
_BARS: Final = ("psnr_hole", "ssim_hole", "lpips_alex_hole", "lpips_alex_image")
_INTERVALS: Final = (
    f"Whiskers are 95 % intervals of the mean, by photos drawn again; bins of fewer than {MIN_PHOTOS} photos have none."
)
_PAIRS: Final = "Each row: the photo, its hole in white, the result."
_BAR_PX: Final = 420
_WIDTH_PX: Final = 700
_MAX_SIDE_PX: Final = 512


class Shown(NamedTuple):
    """Pictures of a pair, uint8 HxWx3."""

    photo: Picture
    hole: Picture
    fill: Picture


def choose_shown(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows of the worst, median and best pairs by PSNR in the hole, by title; fewer where there are fewer pairs."""
    order = sorted(rows, key=lambda row: (row[_SHOWN_BY], row["key"], row["recipe"]))
    count = min(_NUM_SHOWN, max(1, len(order) // 3))
    middle = max(0, (len(order) - count) // 2)
    parts = {"worst": order[:count], "median": order[middle : middle + count], "best": order[-count:]}
    return {f"{title} {n}": dict(row) for title, part in parts.items() for n, row in enumerate(part, start=1)}


def render_page(card: Scorecard, shown: Mapping[str, tuple[Mapping[str, Any], Shown]]) -> str:
    """HTML of the page."""
    title = card.model["model"].removeprefix("results:")
    parts = [
        f"<h1>Scores of {escape(title)}</h1>",
        f"<p class=lead>{escape(describe_scores(card))}</p>",
        *(f"<p class=note>{escape(note)}</p>" for note in card.passport.get("notes", ())),
        *(_render_table(table) for table in list_tables(card)),
        f"<h2>Means with intervals</h2><p>{_INTERVALS}</p>",
        *(_render_bars(card, name) for name in _BARS if name in card.metrics),
        f"<h2>Pairs</h2><p>{_PAIRS}</p>",
        *(_render_pair(title, row, pictures) for title, (row, pictures) in shown.items()),
        "<h2>Passport</h2>",
        _render_passport(card.passport),
    ]
    head = "<meta charset=utf-8><meta name=viewport content='width=device-width'>"
    style = f"<title>Scores of {escape(title)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en>{head}{style}<body>{''.join(parts)}</body></html>\n"


def describe_scores(card: Scorecard) -> str:
    """The scores in a sentence."""
    photos = len({row["key"] for row in card.rows})
    mean = card.mean(_SHOWN_BY)
    others = {name: scores[_SHOWN_BY][ALL].mean for name, scores in card.baselines.items()}
    words = [f"{name} has {'more' if other > mean else 'less'}, {other:.2f}" for name, other in others.items()]
    count = f"{len(card.rows):,} pair{'s' * (len(card.rows) > 1)} of {photos:,} photo{'s' * (photos > 1)}"
    return "; ".join([f"{mean:.2f} dB PSNR in the hole, the mean over {count}", *words]) + "."


def _render_table(table: Table) -> str:
    head = "".join(f"<th>{escape(title)}" for title in table.head)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in table.rows)
    return f"<h2>{escape(table.title)}</h2><div class=wide><table><tr>{head}{rows}</table></div>"


def _render_bars(card: Scorecard, metric: str) -> str:
    """A bar with its interval for each bin that has pairs, of the model, and marks for the baselines."""
    groups = {name: [row for row in card.rows if row["bin"] == name] for name in card.passport.get("bins", ())}
    bars = {name: _estimate_mean(rows, metric, name) for name, rows in {ALL: card.rows, **groups}.items() if rows}
    marks = {name: [s[metric][name].mean for s in card.baselines.values()] for name in bars}
    top = max([abs(bar.high) for bar in bars.values()] + [abs(m) for values in marks.values() for m in values]) or 1.0
    lines = "".join(_draw_bar(n, name, bar, marks[name], top) for n, (name, bar) in enumerate(bars.items()))
    height, info = 24 * len(bars) + 4, REGISTRY[metric]
    unit = "" if info.unit == "1" else f"{info.unit}, "
    title = f"<h3>{metric} ({escape(unit)}{'higher' if info.higher_is_better else 'lower'} is better)</h3>"
    names = [f"<span class=mark{n}>&#9646; {escape(name)}</span>" for n, name in enumerate(card.baselines)]
    legend = f"<p class=legend>&#9646; {escape(card.model['model'].removeprefix('results:'))} {' '.join(names)}</p>"
    return f"{title}{legend}<svg viewBox='0 0 {_WIDTH_PX} {height}' width={_WIDTH_PX} role=img>{lines}</svg>"


def _estimate_mean(rows: Sequence[Mapping[str, Any]], metric: str, name: str) -> Interval:
    """Mean of a metric with its interval; the mean alone where photos are too few."""
    values = np.array([row[metric] for row in rows])
    keys = np.unique([row["key"] for row in rows], return_inverse=True)[1]
    if len(set(keys)) < MIN_PHOTOS:
        return Interval(float(values.mean()), float(values.mean()), float(values.mean()), len(values))
    return bootstrap(values, keys, KeyedRng(0, "bootstrap", metric, name))


def _draw_bar(number: int, name: str, bar: Interval, marks: Sequence[float], top: float) -> str:
    y = 24 * number + 4
    x, low, high = (120 + _BAR_PX * max(0.0, value) / top for value in (bar.gain, bar.low, bar.high))
    drawn = (
        f"<text x=0 y={y + 13}>{escape(name)}</text><rect x=120 y={y} width={x - 120:.1f} height=16 />"
        f"<path d='M{low:.1f} {y + 8}H{high:.1f}M{low:.1f} {y + 4}v8M{high:.1f} {y + 4}v8' />"
        f"<text x={_BAR_PX + 130} y={y + 13}>{bar.gain:.4g} <tspan>({bar.num_pairs:,} pairs)</tspan></text>"
    )
    places = (120 + _BAR_PX * max(0.0, mark) / top for mark in marks)
    return drawn + "".join(f"<path class=mark{n} d='M{place:.1f} {y - 1}v18' />" for n, place in enumerate(places))


def _render_pair(title: str, row: Mapping[str, Any], pictures: Shown) -> str:
    scores = f"{row[_SHOWN_BY]:.2f} dB, hole {100 * row['ratio']:.1f} %"
    images = "".join(f"<img alt={name} src='{_encode(getattr(pictures, name))}'>" for name in Shown._fields)
    spec, key = escape(row["recipe"]), escape(row["key"])
    caption = f"<b>{title}</b>: {key}, {scores}<br><small>{spec}</small>"
    return f"<figure><div>{images}</div><figcaption>{caption}</figcaption></figure>"


def _encode(picture: Picture) -> str:
    """Picture as a data URI, small ones enlarged by the browser, large ones reduced."""
    step = -(-max(picture.shape[:2]) // _MAX_SIDE_PX)
    return "data:image/png;base64," + base64.b64encode(encode_png(picture[::step, ::step])).decode()


def _render_passport(passport: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}<td>{escape(value)}" for name, value in _list_fields(passport))
    return f"<div class=wide><table class=passport>{rows}</table></div>"


def _list_fields(passport: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in sorted(passport.items()):
        if isinstance(value, Mapping):
            yield from ((f"{name}.{part}", text) for part, text in _list_fields(value))
        else:
            yield name, ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1c2128;--paper:#fff;--line:#d0d7de;--bar:#4c78a8;--mark:#c44e52;--other:#e0a030}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--line:#30363d;--bar:#6ea0d6;--mark:#ff7b72;--other:#f2c14e}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1150px;
margin:2em auto;padding:0 1em}
.lead{font-size:1.2em}.note{border-left:4px solid var(--mark);padding-left:.8em}.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{border-bottom:1px solid var(--line);padding:.25em .55em;text-align:right}
td:first-child,th:first-child{text-align:left;white-space:nowrap}.passport td{text-align:left;overflow-wrap:anywhere}
svg{max-width:100%;font:13px system-ui,sans-serif}svg text{fill:var(--ink)}svg tspan{opacity:.6}rect{fill:var(--bar)}
path{stroke:var(--ink);fill:none}path.mark0,path.mark1{stroke-width:3}.legend{color:var(--bar);margin:0}
.mark0{stroke:var(--mark);color:var(--mark)}.mark1{stroke:var(--other);color:var(--other)}
figure{margin:1em 0}figure div{display:flex;gap:4px}
img{width:min(32%,256px);object-fit:contain;image-rendering:pixelated}
small{overflow-wrap:anywhere}
"""
