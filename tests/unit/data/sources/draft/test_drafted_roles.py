"""Drafting a use case: columns that are its entity, key, label and time, and those that cannot be."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError
from data.schema.use_case import parse_use_case
from data.sources.draft.use_case_draft import draft
from data.sources.parquet import open_source
from data.validation.column_types import check_source

_BASE = {"y": [0, 1] * 50, "x": np.arange(100) % 7 + 0.5, "at": np.arange(100) * 86_400}


def drafted(folder, **columns):
    """The use case drafted for a small table in which `who` is the entity and `id` the key, and the table."""
    file, keys = folder / "t.parquet", {"who": ["a"] * 100, "id": [*map(str, range(100))]}
    pq.write_table(pa.table({**_BASE, **keys, **columns}), file)
    return parse_use_case(draft(file, "y", "who", "at", "id"), "t.toml"), open_source(file)


@pytest.mark.parametrize(
    ("keys", "key_type"),
    [
        (pa.array(np.arange(100) % 9), "integer"),
        (pa.array([None if i % 9 == 0 else float(i % 9) for i in range(100)]), "integer"),
        (pa.array([Decimal(i % 9) for i in range(100)]), "integer"),
        (pa.array([f"{i % 9:03d}" for i in range(100)]), "string"),
        (pa.array(np.arange(100) % 9).dictionary_encode(), "integer"),
        (pa.array([True, False] * 50), "string"),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_drafted_entity_fits_its_column(tmp_path, keys, key_type):
    """Whole numbers of any type are integer keys, other keys strings; the table fits what is drafted for it."""
    use_case, source = drafted(tmp_path, who=keys)
    assert use_case.entity is not None
    assert use_case.entity.type == key_type
    check_source(source, use_case)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"who": [1.5] * 100}, "t.parquet: column 'who' holds double, expected strings or integers .* as integers or"),
        ({"who": [[1]] * 100}, "t.parquet: column 'who' holds list<.*expected strings or integers"),
        ({"who": [b"a"] * 100}, "t.parquet: column 'who' holds binary.* in hexadecimal"),
        ({"who": pa.nulls(100)}, "t.parquet: column 'who' is blank in every row"),
        ({"who": ["", " "] * 50}, "t.parquet: column 'who' is blank in every row"),
        ({"id": np.arange(100.0)}, "t.parquet: column 'id' holds double, expected strings or integers"),
        ({"y": [[0], [2]] * 50}, "t.parquet: label 'y' must hold labels or numbers"),
        ({"y": [""] * 100}, "t.parquet: label 'y' must hold labels or numbers.* missing in every row"),
        ({"at": ["soon"] * 100}, "t.parquet: column 'at': not ISO 8601 times"),
    ],
)
def test_column_that_cannot_have_its_role_is_refused(tmp_path, columns, words):
    """A column that cannot be the key, entity, label or time is refused with the file, not written into a draft."""
    with pytest.raises(DataError, match=words):
        drafted(tmp_path, **columns)
