"""Rows of shards as a sequence: what a tuple of records is, without the records."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.records import ShardRecord
from pipelines.shard_rows import ShardRows

ONE = ShardRecord("train", 0, "train/a.tar", 3, 10_240, "0" * 64, "tables/a.parquet", "1" * 64, 1, 2)
RECORDS = st.lists(
    st.builds(
        lambda split, number, count: replace(ONE, split=split, number=number, num_samples=count),
        st.sampled_from(["train", "val"]),
        st.integers(0, 99),
        st.integers(0, 10**6),
    ),
    max_size=30,
).map(tuple)
LAWS = settings(max_examples=40)


@LAWS
@given(records=RECORDS)
def test_it_is_the_records_in_their_order(records: tuple[ShardRecord, ...]) -> None:
    rows = ShardRows.from_records(records)
    assert tuple(rows) == records
    assert (len(rows), rows == records, records == rows) == (len(records), True, True)
    assert tuple(rows[i] for i in range(len(rows))) == records
    assert tuple(rows[i - len(rows)] for i in range(len(rows))) == records
    assert tuple(rows[1:5]) == records[1:5]
    assert tuple(rows[::-2]) == records[::-2]
    assert ShardRows.from_records(rows) is rows
    assert tuple(pickle.loads(pickle.dumps(rows))) == records


@LAWS
@given(records=RECORDS)
def test_its_columns_and_choices_are_those_of_the_records(records: tuple[ShardRecord, ...]) -> None:
    rows = ShardRows.from_records(records)
    assert rows.numbers("num_samples").tolist() == [record.num_samples for record in records]
    assert rows.numbers("num_samples").dtype == np.int64
    assert tuple(rows.where("split", "val")) == tuple(r for r in records if r.split == "val")


def test_what_is_not_there_is_no_row() -> None:
    rows = ShardRows.from_records((ONE, ONE))
    for index in (2, -3):
        with pytest.raises(IndexError):
            rows[index]
    assert (rows == (ONE,), rows == "no rows") == (False, False)
