"""Generated card transactions: features that mean what they say, and frauds that history tells."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score
from xgboost import XGBClassifier

from data.feature_views.point_in_time import point_in_time
from data.schema.features.feature import Source
from data.schema.use_case import load_use_case
from data.sources.synthetic.generators import GENERATORS
from data.sources.synthetic.plan import BLOCK_ROWS, GenerationPlan, default_days, shards

_CARDS = GENERATORS["card_fraud"]
_END_US = 1_767_225_600_000_000
_PLAN = GenerationPlan(rows=3 * BLOCK_ROWS + 1000, seed=3, entities=5000, days=30, end_us=_END_US)


def _all(plan):
    parts = [part for shard in shards(plan, 1) for part in _CARDS.tables(shard)]
    return pa.concat_tables(parts).combine_chunks()


@pytest.fixture(scope="module")
def table():
    """The rows of one plan."""
    return _all(_PLAN)


def test_hour_is_the_hour_of_the_timestamp(table):
    """transaction_hour agrees with the timestamp."""
    hours = table["timestamp"].cast(pa.int64()).to_numpy() // 3_600_000_000 % 24
    assert (hours == table["transaction_hour"].to_numpy()).all()


def test_a_card_is_mostly_used_at_its_own_terminals(table):
    """Purchases of a card in a category are at three terminals, but for trips abroad and misuse, which are at any."""
    frame = table.select(["user_id", "merchant_category", "terminal_id", "is_fraud"]).to_pandas()
    legitimate = frame[frame["is_fraud"] == 0]
    visits = legitimate.value_counts(["user_id", "merchant_category", "terminal_id"])  # the most frequent first
    of_card = visits.groupby(["user_id", "merchant_category"])
    total, usual = of_card.sum(), visits[of_card.cumcount() < 3].groupby(["user_id", "merchant_category"]).sum()
    assert (usual / total)[total >= 20].median() > 0.9
    assert frame.groupby("terminal_id")["merchant_category"].nunique().max() == 1


def test_a_compromised_terminal_shows_in_its_reports(table):
    """Frauds that look like other purchases are at few terminals, each for weeks."""
    frame = table.select(["terminal_id", "is_fraud", "device_trust_score", "foreign_transaction"]).to_pandas()
    plain = frame[(frame["foreign_transaction"] == 0) & (frame["device_trust_score"] > 60)]
    share = plain.groupby("terminal_id")["is_fraud"].mean()
    assert 0 < (share > 0.3).mean() < 0.03
    assert share.median() < 0.01


def test_history_tells_what_the_row_alone_does_not():
    """Of 2 to 3 % frauds, a model ranks the future well by the row, better by its history too, and not perfectly."""
    rows = 100_000
    days = default_days(rows)
    table = _all(GenerationPlan(rows, 0, _CARDS.default_entities(rows, days), days, _END_US))
    use_case, label = load_use_case("card_fraud"), table["is_fraud"].to_numpy()
    assert 0.015 < label.mean() < 0.03
    complete = point_in_time(table, use_case).table
    sent = [feature.name for feature in use_case.features.values() if feature.source is Source.REQUEST]
    by_row, by_history = (_auc(complete, names, label) for names in (sent, list(use_case.features)))
    assert 0.8 < by_row < by_history - 0.02
    assert 0.93 < by_history < 0.98


def _auc(table, names, label):
    columns = [table[name].combine_chunks() for name in names]
    words = [column.dictionary_encode().indices if pa.types.is_string(column.type) else column for column in columns]
    features = np.column_stack([column.to_pandas().to_numpy(float) for column in words])
    model = XGBClassifier(n_estimators=120, max_depth=5, learning_rate=0.08, min_child_weight=5, n_jobs=1).fit(
        features[:80_000], label[:80_000]
    )
    return roc_auc_score(label[80_000:], model.predict_proba(features[80_000:])[:, 1])


def test_frauds_drift(table):
    """The share of frauds made abroad falls over time."""
    abroad = table["foreign_transaction"].to_numpy()[table["is_fraud"].to_numpy() == 1]
    half = len(abroad) // 2
    assert abroad[:half].mean() > abroad[half:].mean() + 0.05
