"""The learning task of labels 0 and 1, for benchmarks without a use case."""

from __future__ import annotations

from data.schema.model_policy import Calibration, Decision
from data.schema.search import Metric
from data.schema.task import Binary
from tune.tasks.binary import BinaryLearning


def binary_task(metric: Metric) -> BinaryLearning:
    """The task, judged by a metric, without calibration."""
    return BinaryLearning(Binary(), metric, Decision(), Calibration.NONE)
