"""The latency of one row, taken of a real model."""

from __future__ import annotations

import numpy as np

from tests.support_model import card_bundle
from tune.latency import row_latency_ms


def test_latency_is_a_positive_number_of_milliseconds():
    """Fewer rows than are taken do: they are gone through again."""
    width = len(card_bundle().manifest.schema_.names)
    assert 0 < row_latency_ms(card_bundle().onnx, np.zeros((3, width), np.float32)) < 1000
