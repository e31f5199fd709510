"""The skew proof by prediction log, of logs that a served application wrote."""

from __future__ import annotations

import pytest

from data.errors import DataError
from ray_app.prediction_log.log import LogOptions, PredictionLog, Sampling
from tests.support.serving.predict_app import FULL, run
from tests.support.training.models import blank_merchants_bundle, card_bundle
from tests.support.training.skew import TABLE, VERSION, other_vocabulary, served_app
from tune.skew.diagnosis import FaultKind, diagnose
from tune.skew.log_replay import prove_log
from tune.skew.replay_requests import ReplayRequests
from tune.skew.row_comparison import SkewProof


def proof_of(folder, wanted=400, version=VERSION, entity_key=None, **parts) -> SkewProof:
    """Ask an application that logs every answer for each row of the table, and prove by its log."""
    log = PredictionLog("gateway-1", card_bundle().manifest, LogOptions(folder / "log", Sampling(1.0, 0.0), entity_key))
    served = served_app(folder, observers=[log], **parts)
    _, sent = ReplayRequests(TABLE, card_bundle().manifest).slice(0, 400)
    assert run(served.post([each.body for each in sent])).status_code == 200
    log.close()
    return prove_log(card_bundle(), version, folder / "log", wanted)


@pytest.mark.parametrize("key", [None, b"secret"], ids=["plain", "hashed"])
def test_log_of_a_sound_service_is_a_proof(tmp_path, key):
    """Vectors and scores as logged are those of training, whether entities are hashed or not."""
    proof = proof_of(tmp_path, entity_key=key)
    assert (proof.compared, proof.differing, proof.passed) == (400, 0, True)
    assert proof.fields == {"request": 400 * 5 + 200 * 3, "online": 200 * 3}


def test_codes_of_another_vocabulary_are_seen_in_the_vectors(tmp_path):
    """The log tells what was scored, so that the field at fault is shown with both codes."""
    proof = proof_of(tmp_path, bundle=other_vocabulary())
    line = next(line for line in proof.mismatches[0].lines if line.fault)
    assert (line.name, line.used.value, line.sent) == ("merchant_category", line.sent, line.offline_value)
    assert line.online != line.offline
    assert {finding.kind for finding in diagnose(proof.mismatches, card_bundle())} == {FaultKind.VOCABULARY}


@pytest.mark.parametrize("empty", ["missing", "value"])
def test_empty_text_that_was_sent_is_proven_as_training_takes_it(tmp_path, empty):
    """A log of '' sent for a word and for a number is compared as what training makes of it."""
    name, bundle = "merchant_category", blank_merchants_bundle(empty)
    log = PredictionLog("gateway-1", bundle.manifest, LogOptions(tmp_path / "log", Sampling(1.0, 0.0)))
    served = served_app(tmp_path, observers=[log], bundle=bundle)
    rows = [{**FULL, **sent} for sent in ({name: ""}, {name: None}, {name: "food"}, {"device_trust_score": ""})]
    assert run(served.post(rows)).status_code == 200
    log.close()
    proof = prove_log(bundle, VERSION, tmp_path / "log", len(rows))
    assert (proof.compared, proof.differing) == (4, 0)
    left_out = 2 if empty == "missing" else 1
    assert proof.fields == {"default": left_out, "online": 1, "request": 4 * 8 - left_out - 1}


def test_rows_of_another_version_do_not_count(tmp_path):
    """A log without the version's rows proves nothing of it."""
    proof = proof_of(tmp_path, version="2")
    assert (proof.compared, proof.passed) == (0, False)


def test_no_more_rows_are_read_than_are_wanted(tmp_path):
    """The proof ends with as many rows as were asked for."""
    assert proof_of(tmp_path, wanted=30).compared == 30


def test_missing_log_is_told(tmp_path):
    """A folder that is not there is named."""
    with pytest.raises(DataError, match="no folder of a prediction log"):
        prove_log(card_bundle(), VERSION, tmp_path / "none", 10)
