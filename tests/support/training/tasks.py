"""Learning tasks for tests that need no whole use case."""

from __future__ import annotations

import numpy as np

from data.schema.model_policy import Calibration, Decision
from data.schema.outputs.binary_output import BinaryOutput
from data.schema.search import Metric
from data.schema.task import Binary
from tune.tasks.binary import BinaryLearning
from tune.tasks.learning_task import Scored


def binary_task(
    metric: Metric = Metric.PR_AUC, decision: Decision | None = None, calibration: Calibration = Calibration.NONE
) -> BinaryLearning:
    """The task of labels 0 and 1."""
    return BinaryLearning(Binary(), metric, decision or Decision(), calibration)


def scored(probabilities: np.ndarray, threshold: float = 0.5) -> Scored:
    """Probabilities (n,) and a threshold as scores of labels 0 and 1."""
    return Scored(np.asarray(probabilities, np.float32).reshape(-1, 1), BinaryOutput(threshold=threshold))
