"""The latency of one row, taken of a real model."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.training.models import card_bundle
from tune.evaluation.latency import row_latency_ms


def test_latency_is_a_positive_number_of_milliseconds():
    """Fewer rows than are taken do: they are gone through again."""
    width = len(card_bundle().manifest.schema_.names)
    assert 0 < row_latency_ms(card_bundle().onnx, np.zeros((3, width), np.float32), 1000) < 1000


@pytest.mark.parametrize(
    ("rounds_ms", "told_ms", "taken"),
    [([3, 2, 0.5, 4, 6], 0.5, 5), ([5] * 7 + [0.9, 0.1], 0.9, 8), ([5] * 19 + [4], 4, 20)],
    ids=["at once", "busy at first", "too slow"],
)
def test_a_busy_machine_is_given_time(monkeypatch: pytest.MonkeyPatch, rounds_ms: list[float], told_ms: float, taken):
    """Five rounds where one is within the budget of 1 ms; while none is, others up to twenty, and the best is told."""
    left = list(rounds_ms)
    monkeypatch.setattr("tune.evaluation.latency._round", lambda scorer, rows: left.pop(0) / 1000)
    width = len(card_bundle().manifest.schema_.names)
    assert row_latency_ms(card_bundle().onnx, np.zeros((1, width), np.float32), 1.0) == pytest.approx(told_ms)
    assert len(rounds_ms) - len(left) == taken
