"""Which features are named as reasons."""

from __future__ import annotations

import numpy as np
import pytest

from ray_app.inference.explanation.reasons import reason_features


@pytest.mark.parametrize(
    ("contributions", "top", "reasons"),
    [
        pytest.param([0.1, 0.5, -0.9, 0.3], 2, [1, 3], id="the strongest first"),
        pytest.param([0.1, -0.5, 0.0], 3, [0], id="what lowers the score or adds nothing is no reason"),
        pytest.param([-0.1, -0.5], 3, [], id="there may be none"),
        pytest.param([0.2, 0.4, 0.2, 0.2], 3, [1, 0, 2], id="equal ones in schema order"),
        pytest.param([0.2], 5, [0], id="fewer features than reasons"),
    ],
)
def test_reasons_are_the_features_that_raise_the_score_most(
    contributions: list[float], top: int, reasons: list[int]
) -> None:
    """Reasons are by size of what they add; none lowers the score."""
    assert reason_features(np.array(contributions), top) == reasons
