"""Which learning task a use case has: the one place in training that tells kinds of target apart."""

from __future__ import annotations

from typing import Any

from data.schema.task import Binary, Multiclass, Ranking, Regression
from data.schema.use_case import UseCase
from tune.tasks.binary import BinaryLearning
from tune.tasks.learning_task import LearningTask
from tune.tasks.multiclass import MulticlassLearning
from tune.tasks.ranking import RankingLearning
from tune.tasks.regression import RegressionLearning

_CLASSES: dict[type, type[LearningTask[Any]]] = {
    Binary: BinaryLearning,
    Multiclass: MulticlassLearning,
    Regression: RegressionLearning,
    Ranking: RankingLearning,
}


def learning_task(use_case: UseCase) -> LearningTask[Any]:
    """Return how the target of a use case is learned and judged."""
    return _CLASSES[type(use_case.task)](use_case.task, use_case.metric, use_case.decision, use_case.calibration)
