"""Which features are the reasons of a row's score: those that raise it most, as adverse-action reason codes have it."""

from __future__ import annotations

import numpy as np


def reason_features(contributions: np.ndarray, top: int) -> list[int]:
    """Return the features that raise a row's score most, the strongest first.

    A feature that lowers the score, or adds nothing, is no reason for it: there may be fewer than `top`, or none.
    Those that add the same stand in schema order.

    Args:
        contributions: of one row in schema order, shape (k,).
        top: most reasons.
    """
    order = np.argsort(-contributions, kind="stable")[:top]
    return [int(i) for i in order if contributions[i] > 0]
