"""Promotion gates: floors, the paired comparison with the champion on the whole and by slice, latency, schema, skew."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa
import pytest

from data.errors import BundleError, ModelNotFound, PromotionConflict
from data.schema.model_policy import Gates, Slice
from data.schema.split import Split
from data.schema.use_case import UseCase
from data.sources.atomic_output import write_table
from tests.support.training.models import card_bundle, card_table, train_bundle
from tests.support.training.registry import new_registry
from tests.support.training.stored_cards import sent_cards, stored_cards
from tune.promotion.gates import Gate, check_gates
from tune.promotion.promotion import judge, promote
from tune.registry.bundle import Bundle
from tune.registry.registry import BUNDLE_FOLDER, HOLDOUT_FOLDER, Registry
from tune.registry.traffic_rules import CHALLENGER, CHAMPION
from tune.search.mlflow_runs import MlflowRuns
from tune.skew.row_comparison import SkewProof


def use_case(**gates) -> UseCase:
    """The card use case with other gates, and time for the model however busy the machine is."""
    return stored_cards().model_copy(update={"gates": Gates(**{"max_latency_ms": 1000, **gates})})


@functools.cache
def weak_bundle():
    """A model of one stump."""
    return train_bundle(card_table(), use_case(), rounds=1, max_depth=1)


HOLDOUT = card_table(rows=2000, seed=99, year=2025)
"""Rows later than all that the models learned from."""
AGAINST = "pr_auc - champion's"


def gate(name: str, given: UseCase, challenger: Bundle, champion: Bundle | None, **more) -> Gate:
    """One row of the gates, by its name."""
    return {row.name: row for row in check_gates(given, HOLDOUT, challenger, champion, **more)}[name]


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
    for name in (AGAINST, "slices", "schema"):
        row = gate(name, use_case(), card_bundle(), None)
        assert (row.value, row.passed) == ("no champion yet", True)


def test_clearly_worse_model_is_refused_and_better_one_passed():
    """The stump does not replace the real model; the real model replaces the stump; a model equals itself."""
    judged = [
        gate(AGAINST, use_case(), *pair).passed
        for pair in (
            (weak_bundle(), card_bundle()),
            (card_bundle(), weak_bundle()),
            (card_bundle(), card_bundle()),
        )
    ]
    assert judged == [False, True, True]


@functools.cache
def rollback() -> tuple[Bundle, Bundle, pa.Table]:
    """A version, its holdout, and the later champion that learned from a longer table, those rows among them."""
    long = card_table(rows=6000)
    old = train_bundle(long.slice(0, 3000), use_case(), rounds=5)
    return old, train_bundle(long, use_case()), long.slice(2400, 600)


def test_champion_that_learned_from_the_holdout_proves_nothing():
    """Its figures there are flattered: neither the whole nor the slices are judged, it is said why, and floors hold."""
    old, new, holdout = rollback()
    rows = {row.name: row for row in check_gates(use_case(min_f1=0.99), holdout, old, new)}
    for name in (AGAINST, "slices"):
        assert (rows[name].passed, rows[name].verdict) == (None, "not judged")
        assert rows[name].value == (
            "not comparable with the champion: it learned from rows up to 2024-01-05 03:59, "
            "these end at 2024-01-03 01:59; search on newer rows to compare"
        )
    assert (rows["f1"].passed, rows["f1"].verdict) == (False, "REFUSED")
    assert [row.name for row in rows.values() if row.name.startswith("slice ")] == []


def test_champion_judged_on_the_same_rows_is_compared():
    """Rows that the champion held out itself it did not learn from, whatever their time; so with later rows."""
    old, new, holdout = rollback()
    found = check_gates(use_case(), holdout, old, new, champions_holdout=holdout)
    assert [row.verdict for row in found if row.name == AGAINST] != ["not judged"]
    without = holdout.drop_columns(["transaction_id"])
    assert "not judged" not in {row.verdict for row in check_gates(use_case(), holdout, old, new, None, True, without)}
    assert gate(AGAINST, use_case(), old, new).verdict != "not judged"


def test_champion_of_which_it_is_not_known_what_it_learned_from_proves_nothing():
    """Without event times only the very same holdout can be compared, and that is said."""
    timeless = sent_cards(event_time=None, split=Split(strategy="random"), gates=use_case().gates)
    champion = train_bundle(card_table(), timeless)
    assert champion.manifest.learned_until_us is None
    row = gate(AGAINST, timeless, card_bundle(), champion)
    assert row.passed is None
    assert row.value.endswith("it may have learned from these rows; search for both on one table to compare")
    assert gate(AGAINST, timeless, card_bundle(), champion, champions_holdout=HOLDOUT).verdict == "passed"


def test_champion_is_compared_on_the_rows_after_those_that_it_learned_from():
    """Of a holdout that overlaps with what the champion learned from, the later rows are enough; a handful is not."""
    long = card_table(rows=6000)
    champion, challenger = train_bundle(long.slice(0, 5200), use_case()), train_bundle(long, use_case())
    rows = {row.name: row for row in check_gates(use_case(), long.slice(4800), challenger, champion)}
    assert rows[AGAINST].passed is not None
    few = {row.name: row for row in check_gates(use_case(), long.slice(4800, 410), challenger, champion)}
    assert few[AGAINST].passed is None
    assert "only 10 of these rows are later than those that it learned from" in few[AGAINST].value


@pytest.mark.parametrize("seed", range(20))
def test_model_of_shuffled_labels_is_refused(seed):
    """A model that learned from labels at random ranks no better than chance, by its own holdout and by any seed."""
    table = card_table(rows=2000, seed=seed)
    at = table.column_names.index("is_fraud")
    shuffled = np.random.default_rng(seed).permutation(table.column("is_fraud").to_numpy())
    table = table.set_column(at, "is_fraud", pa.array(shuffled))
    fooled = train_bundle(table, use_case())
    rows = {row.name: row for row in check_gates(use_case(max_ece=1), table.slice(1600), fooled, None)}
    assert rows["above chance"].verdict == "REFUSED"


def test_model_worse_than_a_fair_baseline_is_refused():
    """A stump is surely worse than logistic regression on the same rows, and is let through where that is declared."""
    name = "pr_auc - logistic regression"
    assert gate(name, use_case(), weak_bundle(), None).verdict == "REFUSED"
    assert gate(name, use_case(max_loss_to_baselines=1), weak_bundle(), None).verdict == "passed"


def test_declared_loss_is_allowed():
    """`max_loss_to_champion` lets a worse model through."""
    assert gate(AGAINST, use_case(max_loss_to_champion=0.9), weak_bundle(), card_bundle()).passed


def test_champion_that_cannot_score_the_holdout_is_not_replaced():
    """A champion with a feature that the holdout lacks cannot be compared, and that is said."""
    other = stored_cards().model_copy(
        update={"features": {name: feature for name, feature in stored_cards().features.items() if name != "amount"}}
    )
    other = other.model_copy(update={"slices": ()})
    rows = check_gates(other, HOLDOUT.drop_columns(["amount"]), train_bundle(card_table(), other), card_bundle())
    found = {row.name: row for row in rows}
    assert not found[AGAINST].passed
    assert "column 'amount' is missing" in found[AGAINST].value
    assert (found["schema"].value, found["schema"].passed) == (
        "feature amount: absent instead of number from request, required",
        False,
    )


def test_other_schema_is_let_through_when_that_is_asked_for():
    """A model with another feature replaces the champion only when clients and store are said to be ready."""
    declared = stored_cards()
    features = {name: each for name, each in declared.features.items() if name != "cardholder_age"}
    smaller = train_bundle(card_table(), declared.model_copy(update={"features": features}))
    assert not gate("schema", use_case(), smaller, card_bundle()).passed
    assert gate("schema", use_case(), smaller, card_bundle(), new_schema=True).passed
    assert gate("schema", use_case(), weak_bundle(), card_bundle()).value == "the same"


@functools.cache
def blind_bundle():
    """The model of a table in which foreign transactions are as harmless as the others."""
    table = card_table()
    mixed = table.column("is_fraud").to_numpy().copy()
    abroad = table.column("foreign_transaction").to_numpy() == 1
    mixed[abroad] = mixed[abroad][::-1]
    at = table.column_names.index("is_fraud")
    return train_bundle(table.set_column(at, "is_fraud", pa.array(mixed)), use_case())


def test_collapsed_slice_is_refused_by_name():
    """A model that fails a declared slice is refused though the whole may pass, and the slice is named."""
    given = use_case(max_loss_to_champion=1.0).model_copy(update={"slices": (Slice(column="foreign_transaction"),)})
    rows = {row.name: row for row in check_gates(given, HOLDOUT, blind_bundle(), card_bundle())}
    assert (rows["slices"].value, rows["slices"].passed) == ("1 of 2 hold", False)
    assert not rows["slice foreign_transaction = 1"].passed
    assert rows[AGAINST].passed
    assert gate("slices", use_case(), card_bundle(), card_bundle()).passed


def test_slices_too_small_to_judge_are_told():
    """A slice without enough rows is not judged, and that is said."""
    given = use_case().model_copy(update={"slices": (Slice(column="amount", edges=(5, 10000)),)})
    assert gate("slices", given, card_bundle(), card_bundle()).value == "1 of 1 hold, 1 too small to judge"


def test_slow_model_is_refused():
    """The p99 of one row must lie within the budget."""
    assert not gate("latency of one row", use_case(max_latency_ms=1e-6), card_bundle(), None).passed
    assert gate("latency of one row", use_case(max_latency_ms=1000), card_bundle(), None).passed


@pytest.mark.parametrize(
    ("wanted", "proof", "value", "passed"),
    [
        (None, None, "not made", True),
        (100, None, "not made", False),
        (100, SkewProof("2", 100, compared=100), "100 rows, 0 differ", True),
        (100, SkewProof("2", 50, compared=50), "50 rows, 0 differ", False),
        (None, SkewProof("2", 50, compared=50), "50 rows, 0 differ", True),
        (None, SkewProof("2", 50, compared=50, differing=1), "50 rows, 1 differ", False),
        (None, SkewProof("2", 50, compared=40, refused=10), "40 rows, 0 differ, 10 refused", False),
    ],
)
def test_skew_proof_is_a_gate(wanted, proof, value, passed):
    """Without a proof the table says so, and refuses where the use case asks for one; a proof must be whole."""
    row = gate("skew proof", use_case(skew_rows=wanted), card_bundle(), None, proof=proof)
    assert (row.value, row.passed) == (value, passed)


@pytest.fixture
def registry(tmp_path):
    """A local registry with the real model as version 1 and the stump as version 2."""
    place = f"sqlite:///{new_registry(tmp_path)}/mlflow.db", tmp_path / "artifacts"
    tracker, registry = MlflowRuns(*place, "card_fraud"), Registry(*place)
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


def test_champion_that_this_version_cannot_read_is_told_with_the_way_out(registry, tmp_path):
    """A champion of another bundle format stops a promotion, and it is said how to go on without a comparison."""
    registry.set_alias("card_fraud", CHAMPION, "1")
    run_id = registry.version("card_fraud", "1").run_id
    found = (tmp_path / "artifacts").glob(f"**/{run_id}/**/{BUNDLE_FOLDER}/bundle.json")
    manifest = min(found, key=lambda path: len(path.parts))  # the other one is within MLflow's model
    manifest.write_text(manifest.read_text().replace('"format": 3', '"format": 1'))
    with pytest.raises(
        BundleError, match=r"version 1, the champion, .*delete the alias 'champion' of model 'card_fraud'"
    ):
        promote(registry, use_case(), "2")
    assert registry.version("card_fraud", CHAMPION).version == "1"


def test_rollback_that_cannot_be_compared_is_the_operators_decision(tmp_path):
    """Back to a version whose holdout the champion learned from: refused, and accepted the other gates decide."""
    place = f"sqlite:///{new_registry(tmp_path)}/mlflow.db", tmp_path / "artifacts"
    tracker, registry = MlflowRuns(*place, "card_fraud"), Registry(*place)
    old, new, holdout = rollback()
    for number, (bundle, rows) in enumerate([(old, holdout), (new, card_table(rows=6000).slice(4800))]):
        run_id = tracker.start("run", {})
        write_table(rows, tmp_path / str(number) / "holdout.parquet")
        tracker.log_folder(run_id, tmp_path / str(number), HOLDOUT_FOLDER)
        registry.publish(bundle, run_id)
    assert promote(registry, use_case(), "2").passed
    for given, accepted in ((use_case(), False), (use_case(min_f1=0.99), True)):
        refused = promote(registry, given, "1", accept_not_judged=accepted)
        assert (refused.passed, registry.version("card_fraud", CHAMPION).version) == (False, "2")
    verdict = promote(registry, use_case(), "1", accept_not_judged=True)
    assert {row.name: row.verdict for row in verdict.gates}[AGAINST] == "not judged"
    assert (verdict.passed, registry.version("card_fraud", CHAMPION).version) == (True, "1")
    back = {row.name: row.verdict for row in promote(registry, use_case(), "2").gates}
    assert back[AGAINST] == "passed", "version 1 learned from no row of version 2's holdout"


@pytest.mark.parametrize(("before", "now"), [("1", "3"), (None, "3")])
def test_champion_that_changed_while_a_version_was_judged_is_not_replaced(registry, before, now):
    """Compare-and-set: whoever was promoted during the skew proof stays, and the error names both champions."""
    given = use_case(max_loss_to_champion=1.0, max_loss_to_baselines=1.0).model_copy(update={"slices": ()})
    registry.publish(
        card_bundle(), MlflowRuns(registry.tracking_uri, registry.artifact_dir, "card_fraud").start("c", {})
    )
    if before:
        registry.set_alias("card_fraud", CHAMPION, before)

    def prove(model, holdout):
        registry.set_alias("card_fraud", CHAMPION, now)
        return SkewProof(model.version, 10, compared=10)

    with pytest.raises(PromotionConflict) as refused:
        promote(registry, given, "2", prove)
    assert f"judged while {f'version {before}' if before else 'no version'} was the champion" in str(refused.value)
    assert f"version {now} is the champion now; promote again" in str(refused.value)
    assert registry.version("card_fraud", CHAMPION).version == now


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
    rows = {row.name: row for row in check_gates(use_case(), other, card_bundle(), weak_bundle())}
    assert rows[AGAINST].passed
