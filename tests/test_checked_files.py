"""Checked files: a sealed record that any changed byte breaks, bytes of a known digest, facts beside a table's rows."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.checked_files import read_checked, read_facts, seal, table_bytes, unseal
from pipelines.records import CorruptDataError, canonical_json, sha256_hex

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
COMMITS = st.dictionaries(st.text(max_size=6).filter(lambda name: name != "sha256"), JSON, max_size=5)


@given(COMMITS)
def test_a_sealed_record_opens_as_what_was_sealed(commit: dict[str, Any]) -> None:
    assert unseal(seal(commit), "x") == commit


@given(COMMITS, st.data())
@settings(max_examples=300)
def test_any_other_bytes_than_the_sealed_ones_are_damaged(commit: dict[str, Any], data: st.DataObject) -> None:
    sealed = seal(commit)
    at = data.draw(st.integers(0, len(sealed) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != sealed[at]))
    for worse in (sealed[:at] + bytes([byte]) + sealed[at + 1 :], sealed[:at], sealed[:at] + sealed[at + 1 :]):
        with pytest.raises(CorruptDataError, match=r"s3://x/dataset\.json.*repeat the job that wrote it"):
            unseal(worse, "s3://x/dataset.json")


@pytest.mark.parametrize("spelling", [{"indent": 1}, {"sort_keys": False, "separators": (",", ": ")}])
def test_another_spelling_of_the_same_record_is_damaged(spelling: dict[str, Any]) -> None:
    fields = json.loads(seal({"b": 1, "a": 2}))
    with pytest.raises(CorruptDataError):
        unseal(json.dumps(fields, **spelling).encode(), "x")


def test_bytes_behind_or_before_the_record_are_damage() -> None:
    for worse in (seal({"a": 1}) + b"\n", b" " + seal({"a": 1})):
        with pytest.raises(CorruptDataError):
            unseal(worse, "x")


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"null", b"7", b'"sha256"', b'{"sha256": 1}', b"\xff", b'["sha256"]']
)
def test_what_is_no_record_is_damaged(data: bytes) -> None:
    with pytest.raises(CorruptDataError, match=r"x is not a commit record|x does not match its own digest"):
        unseal(data, "x")


def test_what_stands_beside_the_rows_of_a_table_is_read_again() -> None:
    rows = pa.table({"a": [1]})
    assert read_facts(table_bytes(rows, {"shard": "x"}))["shard"] == "x"
    assert table_bytes(rows, {"shard": "x"}) != table_bytes(rows, {"shard": "y"})
    assert "shard" not in read_facts(table_bytes(rows))


def test_checked_bytes_are_those_of_the_digest(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"whole")
    assert read_checked(f"{tmp_path}/file", sha256_hex(b"whole")) == b"whole"
    with pytest.raises(CorruptDataError, match=f"{tmp_path}/file is damaged"):
        read_checked(f"{tmp_path}/file", sha256_hex(b"other"))
    with pytest.raises(CorruptDataError, match=f"{tmp_path}/nothing is missing"):
        read_checked(f"{tmp_path}/nothing", sha256_hex(b""))


@given(JSON)
def test_one_value_has_one_spelling(value: Any) -> None:
    text = canonical_json(value)
    assert text == canonical_json(json.loads(text))
    assert text.isascii()
