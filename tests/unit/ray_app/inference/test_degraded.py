"""Failures on the inference path: which rows are answered without the store, and how that is told."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from data.errors import DeadlineExceeded, StoreUnavailable
from data.transform.encoding import Transform
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.protocol.row_parser import RowParser
from tests.support.serving.inference_path import (
    expected,
    inference,
    lookup_failures,
    predict,
    stored,
)
from tests.support.serving.predict_app import (
    FULL,
    ROW,
    STORED,
    CountingStage,
    DownStage,
    manifest,
    run,
)


def test_failing_store_degrades_the_answer():
    """Without the store every row is answered; only those that needed it are marked."""
    needing, full = predict(inference(DownStage()), ROW, FULL)
    assert needing.lookup.degraded is True
    assert needing.lookup.found is None
    assert needing.scores == expected(**ROW)
    assert full.lookup.degraded is False
    assert full.scores == expected(**FULL)


def test_damaged_stored_row_is_degraded_alone(caplog: pytest.LogCaptureFixture):
    """A stored row cut short costs only its own row the stored values; it is counted each time and logged once."""
    whole = stored(u2=STORED).payloads["u2"]
    metrics = GatewayMetrics("r", "m", "1")
    path = inference(CountingStage({"u1": whole[:-3], "u2": whole}), metrics=metrics)
    for _ in range(2):
        damaged, beside = predict(path, ROW, {**ROW, "user_id": "u2"})
        assert (damaged.lookup.degraded, damaged.lookup.found) == (True, None)
        assert damaged.scores == expected(**ROW)
        assert (beside.lookup.degraded, beside.lookup.found) == (False, True)
        assert beside.scores == expected(**{**ROW, **STORED})
    assert lookup_failures(metrics) == {"store_unavailable": 0, "stage_error": 0, "damaged_row": 2}
    named = [record.getMessage() for record in caplog.records if "'u1'" in record.getMessage()]
    assert len(named) == 1
    assert "materialize it again" in named[0]


def test_store_full_of_damaged_rows_does_not_fill_the_log(caplog: pytest.LogCaptureFixture):
    """Of very many damaged rows the log names the first few; all are answered and counted."""
    users = [f"u{i}" for i in range(200)]
    metrics = GatewayMetrics("r", "m", "1")
    path = inference(CountingStage(dict.fromkeys(users, b"")), metrics=metrics)
    predictions = predict(path, *({**ROW, "user_id": user} for user in users))
    assert all(prediction.lookup.degraded for prediction in predictions)
    assert lookup_failures(metrics)["damaged_row"] == len(users)
    assert 1 <= len(caplog.records) <= 20


class BrokenStage:
    """A feature stage with a fault: it returns a row too few, or raises what nobody foresaw."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Fail."""
        if self._error is not None:
            raise self._error
        return [None] * (len(entities) - 1)


@pytest.mark.parametrize("error", [KeyError("nobody foresaw this"), None])
def test_unforeseen_failure_of_the_feature_stage_degrades(error: Exception | None, caplog: pytest.LogCaptureFixture):
    """A fault in the feature stage degrades the rows that needed it, counted, with one traceback in the log."""
    metrics = GatewayMetrics("r", "m", "1")
    path = inference(BrokenStage(error), metrics=metrics)
    for _ in range(2):
        needing, full = predict(path, ROW, FULL)
        assert needing.lookup.degraded is True
        assert needing.scores == expected(**ROW)
        assert full.lookup.degraded is False
    assert lookup_failures(metrics) == {"store_unavailable": 0, "stage_error": 2, "damaged_row": 0}
    (record,) = caplog.records
    assert record.exc_info is not None


def test_spent_time_is_not_spent_on_the_model():
    """Rows whose callers have no time left are not scored."""
    row = RowParser(manifest(), Transform(manifest().schema_)).parse(FULL)
    with pytest.raises(DeadlineExceeded):
        run(inference(None).predict([row], 0.0))


def test_slow_store_leaves_half_of_the_time_to_the_model():
    """A store slower than half of the caller's time costs the online values, not the answer."""

    class Slow:
        async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
            self.allowed = timeout_s
            raise StoreUnavailable("too slow")

    slow = Slow()
    row = RowParser(manifest(), Transform(manifest().schema_)).parse(ROW)
    (prediction,) = run(inference(slow).predict([row], 4.0))
    assert slow.allowed == 2.0
    assert prediction.lookup.degraded
