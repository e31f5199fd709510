"""Tables on the inference path: scored as requests are, but never with defaults for want of the store."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from data.errors import DataError, StoreUnavailable
from data.schema.entity import Entity
from data.transform.encoding import Transform
from ray_app.inference.models.model_scoring import LocalModel
from ray_app.inference.pipeline import InferencePipeline
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from tests.support.serving.inference_path import (
    expected,
    inference,
    model,
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


def test_table_with_a_damaged_stored_row_names_it():
    """Batch scoring is never degraded: a damaged stored row ends it with an error that names the entity."""
    table = pa.table({name: [value] for name, value in ROW.items()})
    stage = CountingStage({"u1": stored(u1=STORED).payloads["u1"][:-1]})
    with pytest.raises(DataError, match=r"entity 'u1': .*materialize it again"):
        run(inference(stage).score_table(table))


def test_table_is_never_degraded():
    """A table that needs a store which fails is refused: a batch with silent defaults would be worse than none."""
    table = pa.table({name: [value] for name, value in ROW.items()})
    with pytest.raises(StoreUnavailable, match="no store today"):
        run(inference(DownStage()).score_table(table))


def test_table_without_a_required_column():
    """A table that lacks a required feature is refused by the column's name."""
    table = pa.table({name: [value] for name, value in FULL.items() if name != "amount"})
    with pytest.raises(DataError, match="column 'amount' is missing"):
        run(inference(None).score_table(table))


def test_table_asks_the_store_for_open_rows_only():
    """Of a table only the rows with a null in an online column are looked up."""
    table = pa.table({name: [value, value, value] for name, value in FULL.items()})
    table = table.set_column(table.column_names.index("user_id"), "user_id", pa.array(["u1", "u2", None]))
    at = table.column_names.index("velocity_last_24h")
    table = table.set_column(at, "velocity_last_24h", pa.array([5, None, None]))
    stage = stored(u2=STORED)
    scores = run(inference(stage).score_table(table))
    assert stage.asked == [["u2", ""]]
    values = [5, STORED["velocity_last_24h"], None]
    assert scores.tolist() == [expected(**{**FULL, "velocity_last_24h": value}) for value in values]
    assert scores.dtype == np.float32


def test_table_asks_for_keys_as_requests_do():
    """Of an integer entity a table asks for the keys that a request can send: 17, from text and whole numbers alike."""
    declared = manifest().model_copy(update={"entity": Entity(column="user_id", type="integer")})
    stage = stored()
    path = InferencePipeline(
        declared, Transform(declared.schema_), stage, LocalModel(model()), GatewayMetrics("r", "m", "1")
    )
    for users in (["17", "018", " "], [17.0, None, 1.5]):
        table = pa.table({"user_id": users, **{name: [ROW[name]] * 3 for name in ROW if name != "user_id"}})
        run(path.score_table(table))
        assert stage.asked.pop() == ["17", "", ""]
