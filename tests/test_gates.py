"""Promotion gates: floors, and the paired comparison with the champion."""

from __future__ import annotations

import functools

import pyarrow as pa
import pytest

from data.errors import ModelNotFound
from data.judgement import Gates
from data.parquet import write_table
from data.usecase import UseCase, load_use_case
from tests.support_model import card_bundle, card_table, train_bundle
from tune.gates import check_gates
from tune.promotion import judge, promote
from tune.registry import CHALLENGER, CHAMPION, HOLDOUT_FOLDER, Registry
from tune.tracking import Tracker


def use_case(**gates) -> UseCase:
    """The shipped use case with other gates."""
    return load_use_case("card_fraud").model_copy(update={"gates": Gates(**gates)})


@functools.cache
def weak_bundle():
    """A model of one stump."""
    return train_bundle(card_table(), use_case(), rounds=1, max_depth=1)


HOLDOUT = card_table(rows=2000, seed=99)


def test_floors_are_judged_one_by_one():
    """Each declared floor is a row with value and limit; those not declared are not there."""
    rows = check_gates(use_case(min_auc=0.5, min_f1=0.99, max_ece=0.5), HOLDOUT, card_bundle(), None)
    assert [(row.name, row.limit, row.passed) for row in rows[:3]] == [
        ("auc", ">= 0.5", True),
        ("f1", ">= 0.99", False),
        ("ece", "<= 0.5", True),
    ]


def test_first_model_has_no_champion_to_beat():
    """Without a champion the comparison is passed and says why."""
    row = check_gates(use_case(), HOLDOUT, card_bundle(), None)[-1]
    assert (row.value, row.passed) == ("no champion yet", True)


def test_clearly_worse_model_is_refused_and_better_one_passed():
    """The stump does not replace the real model; the real model replaces the stump; a model equals itself."""
    judged = [
        check_gates(use_case(), HOLDOUT, *pair)[-1].passed
        for pair in (
            (weak_bundle(), card_bundle()),
            (card_bundle(), weak_bundle()),
            (card_bundle(), card_bundle()),
        )
    ]
    assert judged == [False, True, True]


def test_declared_loss_is_allowed():
    """`max_loss_to_champion` lets a worse model through."""
    assert check_gates(use_case(max_loss_to_champion=0.9), HOLDOUT, weak_bundle(), card_bundle())[-1].passed


def test_champion_that_cannot_score_the_holdout_is_not_replaced():
    """A champion with a feature that the holdout lacks cannot be compared, and that is said."""
    other = load_use_case("card_fraud").model_copy(
        update={
            "features": {
                name: feature for name, feature in load_use_case("card_fraud").features.items() if name != "amount"
            }
        }
    )
    row = check_gates(other, HOLDOUT.drop_columns(["amount"]), train_bundle(card_table(), other), card_bundle())[-1]
    assert not row.passed
    assert "column 'amount' is missing" in row.value


@pytest.fixture
def registry(tmp_path):
    """A local registry with the real model as version 1 and the stump as version 2."""
    place = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts"
    tracker, registry = Tracker(*place, "card_fraud"), Registry(*place)
    for bundle in (card_bundle(), weak_bundle()):
        run_id = tracker.start("run", {})
        write_table(HOLDOUT, tmp_path / "holdout" / "holdout.parquet")
        tracker.log_folder(run_id, tmp_path / "holdout", HOLDOUT_FOLDER)
        registry.publish(bundle, run_id)
    return registry


def test_promotion_moves_the_alias_only_through_the_gates(registry):
    """The first model is promoted; the worse one is refused and the champion stays."""
    assert promote(registry, use_case(min_auc=0.6), "1").passed
    verdict = promote(registry, use_case(min_auc=0.6), CHALLENGER)
    assert (verdict.version, verdict.passed) == ("2", False)
    assert registry.version("card_fraud", CHAMPION).version == "1"


def test_judging_promotes_nothing(registry):
    """`judge` only looks."""
    assert judge(registry, use_case(), "1").passed
    with pytest.raises(ModelNotFound):
        registry.version("card_fraud", CHAMPION)


def test_version_that_is_not_there_is_told(registry):
    """A version that was never published cannot be promoted."""
    with pytest.raises(ModelNotFound, match="'7'"):
        promote(registry, use_case(), "7")


def test_holdout_is_raw_rows():
    """The comparison encodes the raw holdout by each model's own schema, so vocabularies may differ."""
    words = [word.upper() for word in HOLDOUT.column("merchant_category").to_pylist()]
    other = HOLDOUT.set_column(HOLDOUT.column_names.index("merchant_category"), "merchant_category", pa.array(words))
    assert check_gates(use_case(), other, card_bundle(), weak_bundle())[-1].passed
