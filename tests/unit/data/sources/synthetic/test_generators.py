"""Every generator: the same rows whatever the division of work, in time order, as its use case declares them."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.distributed.pieces import each_block_here, parquet_pieces
from data.errors import DataError
from data.schema.use_case import load_use_case
from data.sources.parquet import open_source
from data.sources.row_origin import ROW
from data.sources.synthetic.generators import GENERATORS
from data.sources.synthetic.plan import BLOCK_ROWS, GenerationPlan, shards
from data.validation.column_types import check_source
from data.validation.validation import checker, merge

_END_US = 1_767_225_600_000_000
_PLAN = GenerationPlan(rows=3 * BLOCK_ROWS + 1000, seed=3, entities=5000, days=30, end_us=_END_US)

of_every_use_case = pytest.mark.parametrize("name", GENERATORS)


def generated(name, plan=_PLAN, files=1):
    """The rows of a plan."""
    parts = [part for shard in shards(plan, files) for part in GENERATORS[name].tables(shard)]
    return pa.concat_tables(parts).combine_chunks()


@of_every_use_case
def test_rows_do_not_depend_on_the_division_of_work(name):
    """One file or four give the same rows."""
    table = generated(name)
    assert generated(name, files=4).equals(table)
    assert (table.num_rows, table.schema) == (_PLAN.rows, GENERATORS[name].schema)


@of_every_use_case
def test_another_seed_gives_other_rows(name):
    """The seed decides the rows."""
    plan = replace(_PLAN, rows=1000)
    assert not generated(name, replace(plan, seed=4)).equals(generated(name, plan))


@of_every_use_case
def test_rows_are_in_time_order_within_the_period(name):
    """Keys count up with time, and every time is inside the period."""
    use_case, table = load_use_case(name), generated(name)
    times = table[use_case.event_time].cast(pa.int64()).to_numpy()
    assert (np.diff(times) >= 0).all()
    assert table[use_case.key].to_pylist() == list(range(1, _PLAN.rows + 1))
    assert _PLAN.start_ms * 1000 <= times[0] <= times[-1] < _END_US


@of_every_use_case
def test_rows_are_those_of_the_use_case(tmp_path, name):
    """A generated table is clean by the use case that it is for."""
    pq.write_table(generated(name), tmp_path / "t.parquet")
    source, use_case = open_source(tmp_path / "t.parquet"), load_use_case(name)
    check_source(source, use_case)
    parts = each_block_here(parquet_pieces(source, use_case.columns), checker(use_case, _END_US))
    assert merge(source, use_case, list(parts)).clean


@of_every_use_case
def test_rows_say_which_of_the_plan_they_are_and_are_counted(name):
    """The origin of a row is its number among all rows, whichever shard it is in; counts of parts add up."""
    generator = pickle.loads(pickle.dumps(GENERATORS[name]))
    parts = [part for shard in shards(_PLAN, 3) for part in generator.tables_with_origin(shard)]
    assert [number for part in parts for number in part[ROW].to_pylist()] == list(range(_PLAN.rows))
    counts = sum((generator.counted(part)[1] for part in parts), Counter())
    whole = generator.outcome(generator.tally(pa.concat_tables(parts)), _PLAN.rows)
    assert generator.outcome(counts, _PLAN.rows) == whole


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"entities": 0}, {"seed": -1}, {"days": 4000}, {"entities": 1 << 33}])
def test_impossible_plan_is_refused(wrong):
    """Counts that cannot be generated are refused."""
    with pytest.raises(DataError, match=next(iter(wrong))):
        replace(_PLAN, **wrong)
