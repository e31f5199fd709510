"""Calibration curves: probabilities as a function of the model's margins (log-odds).

As such the exporter can put them behind the trees in the same ONNX graph.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data.schema.model_policy import Calibration


def log_odds_to_probability(log_odds: np.ndarray) -> np.ndarray:
    """Return the logistic function of log-odds, float64 of the same shape; it does not overflow."""
    return np.exp(-np.logaddexp(0.0, -log_odds.astype(np.float64)))


def softmax(margins: np.ndarray) -> np.ndarray:
    """Return the softmax of each row, float64 of shape (n, classes); it does not overflow."""
    margins = margins.astype(np.float64)
    powers = np.exp(margins - margins.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def beta_columns(margins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log p and -log(1 - p), each float64 of shape (n,), for margins of shape (n,); both rise with the margin.

    As softplus of the margin they are finite where p itself would be rounded to 0 or 1.
    """
    margins = margins.astype(np.float64)
    return -np.logaddexp(0.0, -margins), np.logaddexp(0.0, margins)


class PlattCalibration(NamedTuple):
    """Platt's calibration: the log-odds become `slope` * margin + `offset`, `slope` > 0."""

    slope: float
    offset: float

    @property
    def method(self) -> Calibration:
        """The method's name."""
        return Calibration.PLATT

    @property
    def steepness(self) -> float:
        """Largest slope of the curve: rise of the probability per rise of the margin by 1."""
        return self.slope / 4

    def probabilities(self, margins: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float64 of shape (n,), for margins of shape (n,)."""
        return log_odds_to_probability(self.slope * margins.astype(np.float64) + self.offset)


class BetaCalibration(NamedTuple):
    """Beta calibration: the log-odds become `a` * log p - `b` * log(1 - p) + `c`, `a` and `b` not below 0.

    p is the uncorrected probability (Kull, Silva Filho and Flach 2017, "Beta calibration", AISTATS). `a` bends the end
    of low probabilities, `b` that of high ones; a = b is Platt's line, and a = b = 1, c = 0 corrects nothing.
    """

    a: float
    b: float
    c: float

    @property
    def method(self) -> Calibration:
        """The method's name."""
        return Calibration.BETA

    @property
    def steepness(self) -> float:
        """Upper bound of the curve's slope: rise of the probability per rise of the margin by 1."""
        return max(self.a, self.b) / 4

    def probabilities(self, margins: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float64 of shape (n,), for margins of shape (n,)."""
        low, high = beta_columns(margins)
        return log_odds_to_probability(self.a * low + self.b * high + self.c)


class IsotonicCalibration(NamedTuple):
    """Isotonic calibration: linear between knots, constant outside; `margins` ascend and `values` do not fall."""

    margins: np.ndarray
    values: np.ndarray

    @property
    def method(self) -> Calibration:
        """The method's name."""
        return Calibration.ISOTONIC

    @property
    def steepness(self) -> float:
        """Largest slope of the curve: rise of the probability per rise of the margin by 1."""
        return float((np.diff(self.values) / np.diff(self.margins)).max())

    def probabilities(self, margins: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float64 of shape (n,), for margins of shape (n,)."""
        return np.interp(margins.astype(np.float64), self.margins, self.values)


class TemperatureCalibration(NamedTuple):
    """Temperature scaling of several classes: every margin is divided by `temperature`, above 0 (Guo et al. 2017)."""

    temperature: float

    @property
    def method(self) -> Calibration:
        """The method's name."""
        return Calibration.TEMPERATURE

    @property
    def steepness(self) -> float:
        """Largest slope of a probability: its rise per rise of its class's margin by 1."""
        return 1 / (4 * self.temperature)

    def probabilities(self, margins: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float64 of shape (n, classes), for margins of that shape."""
        return softmax(margins.astype(np.float64) / self.temperature)


Calibrator = PlattCalibration | BetaCalibration | IsotonicCalibration | TemperatureCalibration
