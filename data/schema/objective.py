"""What the prediction of a number is fitted to be best at."""

from __future__ import annotations

from enum import Enum


class Objective(str, Enum):
    """What the prediction of a number is to be best at."""

    SQUARED = "squared"
    """The mean: squared errors."""
    ABSOLUTE = "absolute"
    """The median: absolute errors."""
    QUANTILE = "quantile"
    """The declared quantile: pinball loss."""
    POISSON = "poisson"
    """The mean of a count: Poisson deviance."""
    TWEEDIE = "tweedie"
    """The mean of an amount that is often 0, such as a claim: Tweedie deviance."""
