"""Drafting a use case of any table: one that fits it, or a refusal in one line."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from data.schema.use_case import parse_use_case
from data.sources.draft.use_case_draft import draft
from data.sources.parquet import open_source
from data.transform.float32_identity import distinct_numbers
from data.validation.column_types import check_learned

_cells = st.sampled_from(
    [
        (pa.int64(), st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3)),
        (pa.uint64(), st.integers(2**63, 2**64 - 1)),
        (pa.int8(), st.integers(-3, 3)),
        (pa.float64(), st.floats() | st.integers(2**24, 2**24 + 9).map(float)),
        (pa.float32(), st.floats(width=32)),
        (pa.bool_(), st.booleans()),
        (pa.string(), st.text(max_size=3) | st.sampled_from(["1.5", "02", "yes"])),
        (pa.large_string(), st.sampled_from(["a", "2024-01-01"])),
        (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b"])),
        (pa.decimal128(20, 0), st.integers(0, 10**19).map(Decimal)),
        (pa.decimal128(8, 2), st.integers(0, 999).map(Decimal)),
        (pa.date32(), st.dates()),
        (pa.timestamp("us"), st.datetimes()),
        (pa.duration("ms"), st.integers(0, 9)),
        (pa.time64("us"), st.times()),
        (pa.binary(), st.binary(max_size=2)),
        (pa.list_(pa.int8()), st.lists(st.integers(0, 3), max_size=2)),
        (pa.struct({"a": pa.int8()}), st.just({"a": 1})),
        (pa.map_(pa.string(), pa.int8()), st.just([("k", 1)])),
        (pa.null(), st.none()),
    ]
)


@settings(deadline=None, max_examples=150)
@given(st.data(), st.integers(2, 60), st.integers(1, 4))
def test_any_table_is_drafted_or_refused_in_one_line_a_column(tmp_path_factory, data, rows, count):
    """Whatever the columns hold: each is a feature or left out, once, and the draft can be trained on."""
    columns = {"y": pa.array([row % 2 for row in range(rows)])}
    for number in range(count):
        kind, cells = data.draw(_cells)
        values = data.draw(st.lists(cells | st.none(), min_size=rows, max_size=rows))
        columns[f"c{number}"] = pa.array(values, kind)
    file = tmp_path_factory.mktemp("any") / "t.parquet"
    pq.write_table(pa.table(columns), file)
    try:
        text = draft(file, "y")
    except DataError as exc:
        assert all(f'left out: "c{number}": ' in str(exc) for number in range(count))
        return
    use_case = parse_use_case(text, "draft")
    kept = [name for name in columns if name in use_case.schema_.columns]
    left_out = [name for name in columns if f'# left out: "{name}": ' in text]
    assert sorted([*kept, *left_out]) == sorted({*columns} - {"y"})
    check_learned(open_source(file), use_case)
    assert not any(
        each.mostly_lost for each in distinct_numbers(pa.table(columns), use_case.features.values()).values()
    )
