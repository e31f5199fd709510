"""What the tests of the prediction log share: an answered row, a rule that takes all, and a count."""

from __future__ import annotations

from collections import Counter

import pytest

from data.transform.encoding import Transform
from ray_app.inference.observers import Answered
from ray_app.prediction import Lookup, Prediction
from ray_app.prediction_log.log import Sampling
from ray_app.protocol.responses import ResponseRenderer
from ray_app.protocol.row_parser import RowParser
from tests.support.serving.predict_app import ROW, manifest

ALL = Sampling(1.0, 0.0)


def answered(request_id: str = "r1", probability: float = 0.9, entity: str = "u1") -> Answered:
    """One answered row, three of its features left to the defaults."""
    declared = manifest()
    transform = Transform(declared.schema_)
    row = RowParser(declared, transform).parse({**ROW, "user_id": entity})
    answers = ResponseRenderer(declared, transform, "3")
    vector = [1.5 if value is None else value for value in row.encoded]
    prediction = Prediction(row, [probability], Lookup(found=False), 0, vector)
    return Answered("3", 7, request_id, 0.004, prediction, answers.output.code([probability]), answers)


@pytest.fixture
def counted() -> Counter[str]:
    """What became of rows."""
    return Counter()
