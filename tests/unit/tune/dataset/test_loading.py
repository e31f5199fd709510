"""Loading a table that is too large for memory with its events, and small enough with its features: without Ray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from data.errors import ConfigError, DataError
from data.feature_views.events.table_mark import STORED, with_mark
from data.feature_views.point_in_time import point_in_time
from data.schema.events.event_paths import NOTHING_BESIDE, EventPaths
from data.schema.use_case import UseCase
from data.settings import Settings
from data.sources.atomic_output import write_table
from tests.support.training.swipes import swipes_table, swipes_use_case
from tune.dataset.loading import prepared_table
from tune.dataset.training_table import TrainingTable

ROWS, EARLIER = 800, 9000
_STORED = """
materialized = { every = "1d", takes = "2h" }
entity = { column = "card", ttl = "30d" }
"""


def _use_case(stored: bool) -> UseCase:
    """Swipes, with a value that is stored by a schedule."""
    if not stored:
        return swipes_use_case()
    declared = swipes_use_case(_STORED)
    features = {name: feature.model_dump(exclude={"name"}) for name, feature in declared.features.items()}
    trust = {"type": "number", "source": "online"}
    return UseCase.model_validate(
        {**declared.model_dump(exclude={"features"}), "features": {**features, "trust": trust}}
    )


def _swipes(rows: int, seed: int, first: int) -> pa.Table:
    """Swipes with keys from `first` on, and the trust in a card."""
    table, trust = swipes_table(rows, seed), np.random.default_rng(seed).normal(size=rows)
    return table.set_column(0, "swipe_id", pa.array(range(first, first + rows))).append_column("trust", pa.array(trust))


def _tables(folder: Path) -> tuple[Path, EventPaths]:
    """A table, and a long history in which a row comes twice."""
    earlier = _swipes(EARLIER, 4, ROWS)
    write_table(_swipes(ROWS, 3, 0), folder / "t.parquet")
    write_table(pa.concat_tables([earlier, earlier.slice(5, 1)]), folder / "h.parquet")
    return folder / "t.parquet", EventPaths(folder / "h.parquet")


def _load(
    path: Path, use_case: UseCase, memory_mb: int, events: EventPaths = NOTHING_BESIDE, folder: Path | None = None
) -> TrainingTable:
    settings = Settings(var_dir=folder or path.parent / "var", train_memory_mb=memory_mb)
    with prepared_table(path, use_case, settings, events) as (source, prepared):
        assert prepared.shards is None
        return source


@pytest.mark.parametrize("stored", [False, True])
def test_memory_changes_neither_features_nor_what_is_told(stored: bool, tmp_path: Path):
    """Windows, stored values, name, fingerprint and what is left out are those of a table that fits with its events."""
    use_case = _use_case(stored)
    path, events = _tables(tmp_path)
    large, memory = (_load(path, use_case, memory_mb, events) for memory_mb in (1, 1000))
    for name in (*use_case.schema_.names, use_case.label):
        assert large.table.column(name).to_pylist() == memory.table.column(name).to_pylist(), name
    assert (large.path, large.rows, large.fingerprint) == (memory.path, memory.rows, memory.fingerprint)
    assert large.left_out == memory.left_out and large.left_out["swipes"] == {"repeated": 1}
    assert (large.own is None, memory.own is None) == (True, not stored)
    assert not large.holds_stored
    assert list((tmp_path / "var" / "shards").iterdir()) == []


def test_another_history_is_other_data(tmp_path: Path):
    """A value of an earlier row that changes is told by the fingerprint, also where it does not fit into memory."""
    path, events = _tables(tmp_path)
    before = _load(path, swipes_use_case(), 1, events).fingerprint
    write_table(_swipes(EARLIER + 1, 4, ROWS), tmp_path / "h.parquet")
    assert _load(path, swipes_use_case(), 1, events).fingerprint != before


def test_values_at_fault_are_said_of_the_table(tmp_path: Path):
    """Of a large table as of a small one: its name stands before what is wrong with a column."""
    path, table = tmp_path / "t.parquet", _swipes(EARLIER, 3, 0)
    texts = pc.strftime(table.column("at"), format="%Y-%m-%dT%H:%M:%S").to_pylist()
    write_table(table.set_column(1, "at", pa.array([f"{texts[0]}Z", *texts[1:]])), path)
    for memory_mb in (1, 1000):
        with pytest.raises(DataError, match=f"^{path}: column 'at': some of its times name a zone and others none"):
            _load(path, swipes_use_case(), memory_mb)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("windows", "holds its windows, but not what the store would have held"),
        ("stored", "holds what the store would have held, but not its windows"),
    ],
)
def test_a_large_table_with_a_part_of_its_features_is_refused(held: str, said: str, tmp_path: Path):
    """The other part would be made of values that are there no more; the remedy is named."""
    use_case, table = _use_case(True), _swipes(EARLIER, 3, 0)
    made = point_in_time(table, use_case).table
    both = with_mark(made.schema, use_case, stored=True)
    if held == "windows":
        made = made.cast(with_mark(made.schema.remove_metadata(), use_case))
    else:
        made = made.cast(both.with_metadata({STORED: (both.metadata or {})[STORED]}))
    write_table(made, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=rf"t\.parquet: {said}; make it again .*rayscore features IN OUT"):
        _load(tmp_path / "t.parquet", use_case, 1)


def test_a_history_that_nothing_is_made_of_is_refused(tmp_path: Path):
    """A table with windows and stored values needs no earlier rows."""
    use_case = _use_case(True)
    path, events = _tables(tmp_path)
    write_table(point_in_time(_swipes(ROWS, 3, 0), use_case).table, path)
    with pytest.raises(ConfigError, match="--history: the table holds its features already; leave it out"):
        _load(path, use_case, 1000, events)
