"""Records that packages pass on: the grammar of keys, scores that merge, the spelling of JSON."""

import json
import math
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.records import MAX_KEY_BYTES, Score, canonical_json, find_difference, make_key, sha256_hex

GRAMMAR = re.compile(r"([A-Za-z0-9_-]|=[0-9A-F]{2})+(/([A-Za-z0-9_-]|=[0-9A-F]{2})+)*")
NAMES = st.text(st.sampled_from("abcXYZ019_- .éß漢"), min_size=1, max_size=12).filter(lambda n: n.strip(".") != "")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("000001.jpg", "000001"),
        ("a/b/c.png", "a/b/c"),
        ("class-1/A_9.jpeg", "class-1/A_9"),
        ("no_suffix", "no_suffix"),
        ("a.b.jpg", "a=2Eb"),
        ("v1.0/a.jpg", "v1=2E0/a"),
        (".hidden", "=2Ehidden"),
        ("my photo (1).jpg", "my=20photo=20=281=29"),
        ("a=2E.jpg", "a=3D2E"),
        ("é.jpg", "=C3=A9"),
        ("漢.png", "=E6=BC=A2"),
        ("tab\there.png", "tab=09here"),
        ("back\\slash.png", "back=5Cslash"),
        ("raw\udcff.png", "raw=FF"),
        ("photo.", "photo"),
        ("...jpg", "=2E=2E"),
        ("a/....", "a/=2E=2E=2E"),
    ],
)
def test_key_of_a_path(path: str, key: str) -> None:
    assert make_key(path) == key
    assert GRAMMAR.fullmatch(key)


@pytest.mark.parametrize(
    "path", ["", "/", "/a.jpg", "a//b.jpg", "a/", ".", "..", "../a.jpg", "a/../b.jpg", "a/./b.jpg"]
)
def test_a_path_that_leaves_or_blurs_the_root_has_no_key(path: str) -> None:
    with pytest.raises(ValueError, match="path leaves or blurs the root"):
        make_key(path)


def test_a_key_has_at_most_200_bytes() -> None:
    assert make_key("a" * 200 + ".jpg") == "a" * 200
    assert len(make_key("é" * 33 + "aa.jpg")) == MAX_KEY_BYTES
    for path in ("a" * 201 + ".jpg", "é" * 33 + "aaa.jpg"):
        with pytest.raises(ValueError, match="key longer than 200 bytes"):
            make_key(path)


@given(path=st.text(max_size=60) | st.text(st.sampled_from("ab./=\\ \x00é\udc80\ud800"), max_size=20))
def test_any_path_has_a_key_of_the_grammar_or_none(path: str) -> None:
    try:
        key = make_key(path)
    except ValueError:
        return
    assert GRAMMAR.fullmatch(key)
    assert len(key.encode()) <= MAX_KEY_BYTES


@given(folders=st.lists(NAMES, max_size=3), name=NAMES)
def test_a_path_is_read_back_from_its_key(folders: list[str], name: str) -> None:
    path = "/".join([*folders, f"{name}.jpg"])
    assume(3 * len(path.encode()) <= MAX_KEY_BYTES)  # of longer ones not every key is short enough
    key = make_key(path)
    assert re.sub(rb"=(..)", lambda m: bytes([int(m[1], 16)]), key.encode()).decode() == "/".join([*folders, name])


@given(one=st.tuples(NAMES, NAMES), other=st.tuples(NAMES, NAMES))
def test_distinct_names_have_distinct_keys(one: tuple[str, str], other: tuple[str, str]) -> None:
    keys = [make_key(f"{folder}/{name}.jpg") for folder, name in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


def test_scores_add_sums_and_counts() -> None:
    merged = Score(10.0, 2) + Score(2.0, 1)
    assert (merged.total, merged.count, merged.mean) == (12.0, 3, 4.0)


def test_a_score_of_nothing_has_no_mean_and_changes_nothing() -> None:
    nothing = Score(0.0, 0)
    assert math.isnan(nothing.mean)
    assert nothing + Score(3.0, 2) == Score(3.0, 2) == Score(3.0, 2) + nothing


@given(pairs=st.lists(st.tuples(st.integers(-1000, 1000), st.integers(0, 50)), min_size=1), cut=st.integers(0, 20))
def test_scores_merge_the_same_in_any_grouping(pairs: list[tuple[int, int]], cut: int) -> None:
    scores = [Score(float(total), count) for total, count in pairs]
    halves = [sum(part, start=Score(0.0, 0)) for part in (scores[:cut], scores[cut:])]
    assert halves[0] + halves[1] == sum(reversed(scores), start=Score(0.0, 0))


@pytest.mark.parametrize(
    ("there", "asked", "difference"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": 1, "extra": 2}, {"a": 1}, None),
        ({"a": 1}, {"a": 2}, ("a", 1, 2)),
        ({}, {"a": 2}, ("a", None, 2)),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ("a.b.c", 1, 2)),
        ({"a": {"b": 1}, "c": 1}, {"a": {"b": 1}, "c": 2}, ("c", 1, 2)),
        ({"a": [1, 2]}, {"a": [1, 3]}, ("a", [1, 2], [1, 3])),
        ({"a": 5}, {"a": {"b": 1}}, ("a", 5, {"b": 1})),
        ({"x": 1, "y": 1}, {"x": 2, "y": 2}, ("x", 1, 2)),
    ],
)
def test_first_difference_names_the_field_and_both_values(
    there: object, asked: object, difference: tuple[str, object, object] | None
) -> None:
    assert find_difference(there, asked) == difference


@given(value=JSON)
def test_nothing_differs_from_itself(value: object) -> None:
    assert find_difference(value, value) is None


def test_canonical_json_has_one_spelling() -> None:
    assert canonical_json({"b": [1, 2], "a": "é"}) == b'{"a":"\\u00e9","b":[1,2]}'


@given(value=JSON)
def test_canonical_json_is_ascii_and_keeps_the_value(value: object) -> None:
    data = canonical_json(value)
    assert data.isascii()
    assert json.loads(data) == value
    assert canonical_json(json.loads(data)) == data


@given(fields=st.dictionaries(st.text(max_size=5), st.integers(), max_size=6))
def test_canonical_json_does_not_depend_on_the_order_of_fields(fields: dict[str, int]) -> None:
    assert canonical_json(dict(reversed(fields.items()))) == canonical_json(fields)


def test_digest_of_nothing_is_the_known_one() -> None:
    assert sha256_hex(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
