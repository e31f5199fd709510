"""The skew proof over HTTP: nothing found on a sound service, the planted faults found and named."""

from __future__ import annotations

import pytest

from data.errors import ServiceError
from tests.support.serving.predict_app import DownStage
from tests.support.training.models import blank_merchants_bundle, blank_merchants_table, card_bundle
from tests.support.training.skew import (
    TABLE,
    VERSION,
    ZeroIsMissing,
    listening,
    other_vocabulary,
    served_app,
    zero_or_default,
)
from tune.skew.diagnosis import FaultKind, diagnose
from tune.skew.http_replay import ReplayPace, prove
from tune.skew.row_comparison import SkewProof
from tune.skew.service_client import ServiceClient

FAST = 1e6


def proof_of(app, wanted=800, version=VERSION, table=TABLE, bundle=None, **given) -> SkewProof:
    """Serve the application and prove it."""
    with listening(app) as url:
        service = ServiceClient(url, version)
        try:
            return prove(bundle or card_bundle(), table, service, ReplayPace(wanted, FAST), **given)
        finally:
            service.close()


def kinds(proof: SkewProof) -> list[FaultKind]:
    """The kinds of fault found, most rows first."""
    return [finding.kind for finding in diagnose(proof.mismatches, card_bundle())]


def test_sound_service_is_proven(tmp_path):
    """Both forms of every row are compared and none differs, whether a value was sent or stored."""
    done: list[int] = []
    proof = proof_of(served_app(tmp_path).app, advance=done.append)
    assert (proof.compared, proof.differing, proof.passed) == (800, 0, True)
    assert proof.fields == {"request": 800 * 5 + 400 * 3, "online": 400 * 3}
    assert sum(done) == 800


@pytest.mark.parametrize("empty", ["missing", "value"])
def test_table_with_empty_text_is_proven(tmp_path, empty):
    """A sound service takes '' of a table as training does: as missing, or as the word that it is declared to be."""
    bundle, table = blank_merchants_bundle(empty), blank_merchants_table(100, seed=5)
    proof = proof_of(served_app(tmp_path, bundle=bundle).app, 200, table=table, bundle=bundle)
    blank = 2 * table.column("merchant_category").to_pylist().count("")
    assert (proof.compared, proof.differing, proof.refused) == (200, 0, 0)
    assert proof.fields["default"] == (blank if empty == "missing" else 0)


def test_codes_of_another_vocabulary_are_found_and_named(tmp_path):
    """A served encoder with the category codes in another order is caught by its scores alone, and named."""
    proof = proof_of(served_app(tmp_path, bundle=other_vocabulary()).app)
    assert not proof.passed
    assert all(not line.fault for line in proof.mismatches[0].lines)
    (finding,) = diagnose(proof.mismatches, card_bundle())
    assert (finding.kind, finding.features) == (FaultKind.VOCABULARY, ("merchant_category",))
    assert "is scored as code" in finding.example


def test_zero_replaced_by_a_default_is_found_and_named(tmp_path):
    """`value or default` before the service is caught by the values, with the fields that it touches."""
    app = zero_or_default(served_app(tmp_path).app, transaction_hour=12, velocity_last_24h=1)
    proof = proof_of(app)
    assert not proof.passed
    (finding,) = diagnose(proof.mismatches, card_bundle())
    assert finding.kind is FaultKind.ZERO
    assert set(finding.features) == {"transaction_hour", "velocity_last_24h"}
    assert "0 was sent" in finding.example


def test_zero_scored_as_missing_is_found_and_named(tmp_path):
    """A model stage that takes zeros for missing is caught by its scores alone, and named."""
    proof = proof_of(served_app(tmp_path, model=ZeroIsMissing()).app)
    assert not proof.passed
    assert kinds(proof)[0] is FaultKind.ZERO
    assert FaultKind.UNEXPLAINED not in kinds(proof)


def test_both_faults_at_once_are_told_apart(tmp_path):
    """A zero lost before the encoder and codes of another vocabulary behind it are both named."""
    app = zero_or_default(served_app(tmp_path, bundle=other_vocabulary()).app, velocity_last_24h=1)
    assert set(kinds(proof_of(app))) == {FaultKind.ZERO, FaultKind.VOCABULARY}


def test_table_that_is_too_small_proves_nothing(tmp_path):
    """Where the table ends before enough rows are compared, the proof is not passed."""
    proof = proof_of(served_app(tmp_path).app, wanted=801)
    assert (proof.compared, proof.differing, proof.passed) == (800, 0, False)


def test_refused_rows_are_counted_and_the_first_is_told(tmp_path):
    """Rows that training takes and serving refuses do not count as compared."""
    hours = TABLE.column("transaction_hour").to_pylist()
    hours[3] = 24
    at = TABLE.column_names.index("transaction_hour")
    proof = proof_of(served_app(tmp_path).app, table=TABLE.set_column(at, "transaction_hour", [hours]))
    assert (proof.compared, proof.refused, proof.passed) == (798, 2, False)
    assert proof.first_refusal.startswith("row 3: transaction_hour: 24 is above")


def test_rows_without_the_store_are_no_proof(tmp_path):
    """Answers given while the store is down are counted apart; the rows that need no store are compared."""
    proof = proof_of(served_app(tmp_path, features=DownStage()).app)
    assert (proof.compared, proof.degraded, proof.differing, proof.passed) == (400, 400, 0, False)


def test_version_that_is_not_loaded_is_told(tmp_path):
    """A version that the service does not hold ends the proof with the service's own words."""
    with pytest.raises(ServiceError, match="version 9 is not loaded"):
        proof_of(served_app(tmp_path).app, version="9")
