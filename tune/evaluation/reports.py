"""Which report a use case has, by the kind of its target."""

from __future__ import annotations

from data.schema.task import Binary, Multiclass, Ranking, Regression
from data.schema.use_case import UseCase
from tune.evaluation.binary_report import BinaryReport
from tune.evaluation.kind_report import KindReport
from tune.evaluation.multiclass_report import MulticlassReport
from tune.evaluation.ranking_report import RankingReport
from tune.evaluation.regression_report import RegressionReport

_REPORTS: dict[type, type[KindReport]] = {
    Binary: BinaryReport,
    Multiclass: MulticlassReport,
    Regression: RegressionReport,
    Ranking: RankingReport,
}


def report_of(use_case: UseCase) -> KindReport:
    """Return the report of a use case's kind of target."""
    return _REPORTS[type(use_case.task)]()
