"""The generator: the same rows whatever the division of work, and features that mean what they say."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score
from xgboost import XGBClassifier

from data.errors import DataError
from data.sources.row_origin import ROW
from data.sources.synthetic_transactions import (
    BLOCK_ROWS,
    SCHEMA,
    GenerationPlan,
    default_days,
    default_entities,
    frauds,
    shards,
    tables,
    tables_with_origin,
)

_END_US = 1_767_225_600_000_000
_PLAN = GenerationPlan(rows=3 * BLOCK_ROWS + 1000, seed=3, entities=5000, days=30, end_us=_END_US)


def _all(plan, files=1):
    parts = [part for shard in shards(plan, files) for part in tables(shard)]
    return pa.concat_tables(parts).combine_chunks()


@pytest.fixture(scope="module")
def table():
    """The rows of one plan."""
    return _all(_PLAN)


def test_rows_do_not_depend_on_the_division_of_work(table):
    """One file or four give the same rows."""
    assert _all(_PLAN, 4).equals(table)
    assert table.num_rows == _PLAN.rows
    assert table.schema == SCHEMA


def test_another_seed_gives_other_rows(table):
    """The seed decides the rows."""
    assert not _all(replace(_PLAN, seed=4)).equals(table)


def test_rows_are_in_time_order_within_the_period(table):
    """Ids count up with time, and every time is inside the period."""
    times = table["timestamp"].cast(pa.int64()).to_numpy()
    assert (np.diff(times) >= 0).all()
    assert table["transaction_id"].to_numpy().tolist() == list(range(1, _PLAN.rows + 1))
    assert _PLAN.start_ms * 1000 <= times[0] <= times[-1] < _END_US


def test_hour_is_the_hour_of_the_timestamp(table):
    """transaction_hour agrees with the timestamp."""
    hours = table["timestamp"].cast(pa.int64()).to_numpy() // 3_600_000_000 % 24
    assert (hours == table["transaction_hour"].to_numpy()).all()


def test_velocity_counts_the_users_last_24_hours(table):
    """velocity_last_24h is the number of the user's earlier rows in [t - 24 h, t), across blocks and files."""
    frame = table.select(["user_id", "timestamp", "velocity_last_24h"]).to_pandas()
    for user in frame["user_id"].drop_duplicates().sample(60, random_state=0):
        rows = frame[frame["user_id"] == user]
        times = rows["timestamp"].to_numpy().astype("datetime64[us]").astype(np.int64)
        expected = [int(((times >= t - 86_400_000_000) & (times < t)).sum()) for t in times]
        assert rows["velocity_last_24h"].tolist() == expected


def test_fraud_is_rare_and_can_be_learnt_but_not_perfectly():
    """Between 1.5 and 3 % are frauds, and a model of the past ranks the future with AUC 0.93 to 0.98."""
    rows = 100_000
    days = default_days(rows)
    table = _all(GenerationPlan(rows, 0, default_entities(rows, days), days, _END_US))
    label = table["is_fraud"].to_numpy()
    assert 0.015 < label.mean() < 0.03
    names = [field.name for field in SCHEMA if field.type == pa.int64()][1:-1]
    codes = table["merchant_category"].combine_chunks().dictionary_encode().indices.to_numpy()
    features = np.column_stack([table["amount"].to_numpy(), codes, *(table[name].to_numpy() for name in names)])
    model = XGBClassifier(n_estimators=100, max_depth=5, n_jobs=2).fit(features[:80_000], label[:80_000])
    assert 0.93 < roc_auc_score(label[80_000:], model.predict_proba(features[80_000:])[:, 1]) < 0.98


def test_frauds_drift(table):
    """The share of frauds made abroad falls over time."""
    abroad = table["foreign_transaction"].to_numpy()[table["is_fraud"].to_numpy() == 1]
    half = len(abroad) // 2
    assert abroad[:half].mean() > abroad[half:].mean() + 0.05


def test_rows_say_which_of_the_plan_they_are(table):
    """The origin of a row is its number among all rows, whichever shard it is in, and frauds are counted."""
    parts = [part for shard in shards(_PLAN, 3) for part in tables_with_origin(shard)]
    numbers = [number for part in parts for number in part[ROW].to_pylist()]
    assert numbers == list(range(_PLAN.rows))
    assert sum(map(frauds, parts)) == frauds(table) == int(table["is_fraud"].to_numpy().sum())


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"entities": 0}, {"seed": -1}, {"days": 4000}, {"entities": 1 << 26}])
def test_impossible_plan_is_refused(wrong):
    """Counts that cannot be generated are refused."""
    with pytest.raises(DataError, match=next(iter(wrong))):
        replace(_PLAN, **wrong)
