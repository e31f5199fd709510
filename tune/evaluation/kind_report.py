"""What a model card and its plots say beyond figures: one class for each kind of target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from data.schema.use_case import UseCase
from tune.evaluation.holdout_evaluation import HoldoutEvaluation
from tune.evaluation.markdown_table import markdown_table
from tune.tasks.learning_task import Scored
from tune.training.final_model import FinalModel


class KindReport(ABC):
    """The parts of a report that differ between kinds of target."""

    answers: str = ""
    """What a model answers, for a card without a description; `{label}` is the label's column."""
    observed: str = ""
    """What was seen of a slice."""
    predicted: str = ""
    """What the scores say of it."""

    @abstractmethod
    def plots(self, folder: Path, labels: np.ndarray, model: FinalModel) -> None:
        """Write the plots of a model on the holdout as PNG; `labels` are the holdout's."""

    @abstractmethod
    def compare(self, axes: Axes, labels: np.ndarray, sides: Mapping[str, Scored], colors: Sequence[str]) -> None:
        """Draw the scores of models on the same rows."""

    @abstractmethod
    def decision(self, use_case: UseCase, model: FinalModel, figures: HoldoutEvaluation) -> str:
        """Return the section on how a score becomes an answer, as Markdown."""

    @abstractmethod
    def limits(self, labels: np.ndarray, model: FinalModel) -> list[str]:
        """Return what the card's limits say of this kind."""

    def rate(self, value: float) -> str:
        """Return a slice's observed or predicted value as text."""
        return f"{value:.2%}"

    def calibration(self, model: FinalModel, figures: HoldoutEvaluation, names: Sequence[str]) -> str:
        """Return the section on calibration, as Markdown; `names` of figures that depend on scores alone."""
        rows = [("**as it answers**", *(f"{figures.holdout.metrics[name]:.4f}" for name in names))]
        how = "The probabilities are the booster's own."
        if figures.uncalibrated is not None and model.calibrator is not None:
            how = (
                f"Corrected by {model.calibrator.method.value} calibration inside the ONNX model, fitted on scores out "
                f"of fold ({len(model.judged):,} rows)."
            )
            rows.append(("without calibration", *(f"{figures.uncalibrated[name]:.4f}" for name in names)))
        return f"## Calibration\n\n{how} On the holdout:\n\n" + markdown_table(("probability", *names), rows)
