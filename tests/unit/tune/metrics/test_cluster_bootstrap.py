"""Intervals of rows that belong to entities: entities are resampled, not rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from data.schema.model_policy import Slice
from data.schema.search import Metric
from data.schema.use_case import UseCase
from tests.support.training.models import card_table
from tests.support.training.stored_cards import sent_cards, stored_cards
from tests.support.training.tasks import binary_task, scored
from tests.support.training.training_reports import finish_in_process
from tune.evaluation.holdout_evaluation import HoldoutEvaluation
from tune.evaluation.model_card import TrainingOutcome, write_card
from tune.evaluation.slices import slice_figures
from tune.metrics.cluster_bootstrap import LEAST_ENTITIES, entity_codes, resampling_units
from tune.metrics.figures import intervals
from tune.metrics.ranking import Ranking, resamples

CARDS = stored_cards()


def alike(rng: np.random.Generator, entities: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of entities whose rows share the label and, nearly, the score."""
    level = rng.normal(size=entities)
    labels = (rng.random(entities) < 1 / (1 + np.exp(1 - level))).astype(np.uint8)
    return np.repeat(labels, rows), np.repeat(level, rows) + rng.normal(size=entities * rows) * 0.01


def test_interval_covers_the_truth_where_rows_of_an_entity_are_alike():
    """60 entities of 20 rows: the 95 % interval holds the true AUC in nearly 95 of 100 tables, not in a third."""
    rng = np.random.default_rng(1)
    truth = Ranking(*alike(rng, 200_000, 1)).auc()
    entities, hits = np.repeat(np.arange(60), 20), []
    for _ in range(60):
        ranking = Ranking(*alike(rng, 60, 20))
        low, high = intervals(lambda counts, it=ranking: {"auc": it.auc(counts)}, 1200, entities=entities)["auc"]
        hits.append(low <= truth <= high)
    assert np.mean(hits) >= 0.85


def test_rows_of_an_entity_are_drawn_together():
    """Every resample counts all rows of an entity alike, and draws as many entities as there are."""
    entities = np.repeat(np.arange(40), np.arange(1, 41))
    for counts in resamples(len(entities), 20, 0, resampling_units(entities)):
        first = counts[np.flatnonzero(np.diff(entities, prepend=-1))]
        assert (counts == np.repeat(first, np.arange(1, 41))).all()
        assert first.sum() == 40


def test_models_are_paired_on_the_same_entities():
    """A model has no difference to itself, whoever is drawn."""
    labels, scores = alike(np.random.default_rng(2), 60, 5)
    mine = scored(1 / (1 + np.exp(-scores)))
    entities = np.repeat(np.arange(60), 5)
    found = binary_task(Metric.PR_AUC).differences(labels, mine, {"it": mine}, entities=entities)
    assert found["it"] == (0.0, 0.0, 0.0)


def test_rows_are_drawn_where_entities_cannot_be():
    """No entities, one row each, or fewer than ten of them: the interval is that of the rows."""
    labels, scores = alike(np.random.default_rng(3), 30, 10)
    given, evaluate = (labels, scored(1 / (1 + np.exp(-scores)))), binary_task().evaluate
    rows = evaluate(*given).intervals
    few = np.arange(300) % (LEAST_ENTITIES - 1)
    assert evaluate(*given, entities=few).intervals == evaluate(*given, entities=np.arange(300)).intervals == rows
    assert resampling_units(None) is None
    whole = evaluate(*given, entities=np.repeat(np.arange(30), 10)).intervals["auc"]
    assert whole.high - whole.low > rows["auc"].high - rows["auc"].low


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_rows_without_an_entity_stand_alone(kind):
    """Rows whose entity is blank are not taken for one entity; a table without the column has no codes."""
    table = pa.table({"user_id": pa.array(["a", None, "a", "b", None, "", " ", ""]).cast(kind)})
    codes = entity_codes(table, CARDS)
    assert codes is not None
    assert codes[0] == codes[2]
    assert len(set(codes.tolist())) == 7
    some = entity_codes(table, CARDS, np.array([1, 2, 4]))
    assert some is not None
    assert len(set(some.tolist())) == 3
    assert entity_codes(table.rename_columns(["other"]), CARDS) is None


def test_slices_resample_entities_too():
    """The interval of a slice is over its entities."""
    labels, scores = alike(np.random.default_rng(4), 60, 20)
    rows, mine, task = np.arange(1200), scored(1 / (1 + np.exp(-scores))), binary_task(Metric.AUC)
    given = pa.table({"c": ["a"] * 1200}), rows, rows, labels, mine, [Slice(column="c")], task
    (plain,), (grouped,) = slice_figures(*given), slice_figures(*given, np.repeat(np.arange(60), 20))
    assert plain.interval is not None
    assert grouped.interval is not None
    assert grouped.interval.high - grouped.interval.low > 2 * (plain.interval.high - plain.interval.low)


def told(table: pa.Table, use_case: UseCase) -> tuple[str, HoldoutEvaluation]:
    """The card of a search on the table, and the figures."""
    source, prepared, trials, model, figures = finish_in_process(table, use_case, 1)
    return write_card(use_case, TrainingOutcome(source, prepared, model, figures, trials[0], 1, [])), figures


def test_card_says_what_was_resampled():
    """A declared entity is resampled and named; too few are told as such; without one nothing is said."""
    table = card_table(2000)
    card, figures = told(table, CARDS)
    users = len(set(table["user_id"].to_pylist()[1600:]))
    assert f"resample the {users} different `user_id` of the holdout, each with all its rows" in card
    plain, by_rows = told(table, sent_cards())
    assert "resample" not in plain
    assert figures.holdout.metrics == by_rows.holdout.metrics
    assert figures.holdout.intervals != by_rows.holdout.intervals
    at = table.column_names.index("user_id")
    few, _ = told(table.set_column(at, "user_id", pa.array(["one"] * 2000)), CARDS)
    assert "1 different `user_id` are too few" in few
