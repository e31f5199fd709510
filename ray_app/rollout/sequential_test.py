"""Anytime-valid test of two groups' shares: e-processes that measure the evidence against a version at any moment.

The test is that of Turner, Ly and Gruenwald, "Generic E-variables for exact sequential k-sample tests that allow for
optional stopping" (2024, arXiv:2106.02693). Each second is a block, and groups are compared within blocks only: neither
a change of customers at night nor a weight that is raised between two seconds biases it.

For a block with k1 of n1 hits in the group under test and k0 of n0 in the other, an alternative (p1, p0) that was
fixed before the block has the e-value E = (p1/r1)^k1 ((1-p1)/(1-r1))^(n1-k1) (p0/r0)^k0 ((1-p0)/(1-r0))^(n0-k0), where
(r1, r0) is the point of the boundary r1 = a + b r0 that is likeliest if the alternative holds. For all true shares with
q1 <= a + b q0 its mean is at most 1: each factor's mean is linear in q, the sum of these means is the block's size at
(r1, r0), has no slope along the boundary and falls away from it, and a product is at most its factors' arithmetic mean
to the power of their number. So the product over blocks exceeds 1/alpha at any time with probability alpha at most
(Ville's inequality).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_ODDS = np.array([1.3, 2.0, 4.0, 12.0, 50.0])
"""The alternatives: the boundary's odds, p / (1 - p), times each of these."""
_MAX_BLOCK_LOG_E = np.log(8.0)
"""Most that a block counts. Capped, E stays valid; failures that come together in one bad moment decide nothing."""
_BISECTIONS = 36
_MAX_EDGE = 0.98


class Boundary(NamedTuple):
    """The null hypothesis: the version's share is at most `a + b` times the other's."""

    a: float
    b: float


class SequentialTest:
    """Tests `width` null hypotheses with the same boundary.

    It is a weighted sum of e-processes, which is one too: over the alternatives, and over the block with which the
    version went wrong. One that starts with block n has the weight 1/(n(n+1)), so that an hour in which all was well
    does not have to be made up for.
    """

    def __init__(self, boundary: Boundary, width: int = 1) -> None:
        self._boundary = boundary
        self._blocks = 0
        self._other_hits = np.zeros(width)
        self._other_total = np.zeros(width)
        self._log = np.full((width, len(_ODDS)), -np.inf)

    @property
    def log_e(self) -> np.ndarray:
        """Natural logarithms of the e-values, shape (width,); ln(1/alpha) or more rejects a hypothesis at alpha."""
        bets = _log_sum(self._log) - np.log(len(_ODDS))
        return np.logaddexp(bets, -np.log(self._blocks + 1))

    def update(self, k1: np.ndarray, n1: np.ndarray, k0: np.ndarray, n0: np.ndarray) -> None:
        """Add one block: hits and totals of the version under test (1) and of the other (0), each of shape (width,)."""
        a, b = self._boundary
        if not np.any(n1 + n0):
            return
        if b == 0 or self._other_total.any():
            # An alternative must be fixed before its block: the other's share is estimated from earlier blocks, so the
            # first block only serves that estimate.
            p0 = (self._other_hits + 0.5) / (self._other_total + 1)
            self._multiply(a + b * p0, p0, (k1, n1, k0, n0))
        self._other_hits = self._other_hits + k0
        self._other_total = self._other_total + n0

    def _multiply(self, edge: np.ndarray, p0: np.ndarray, block: tuple[np.ndarray, ...]) -> None:
        k1, n1, k0, n0 = (np.broadcast_to(np.asarray(each, float)[:, None], self._log.shape) for each in block)
        self._blocks += 1
        # Near a share of 1 there is no room for an alternative above the boundary.
        room = edge < _MAX_EDGE
        edge = np.minimum(edge, _MAX_EDGE)
        odds = _ODDS * (edge / (1 - edge))[:, None]
        p1 = odds / (1 + odds)
        p0 = np.broadcast_to(p0[:, None], p1.shape)
        r1, r0 = _on_boundary(self._boundary, (p1, n1), (p0, n0))
        gain = _gain(k1, n1, p1, r1) + (_gain(k0, n0, p0, r0) if self._boundary.b else 0.0)
        begin = -np.log(self._blocks * (self._blocks + 1.0))
        self._log = np.logaddexp(self._log, begin) + np.where(room[:, None], np.minimum(gain, _MAX_BLOCK_LOG_E), 0.0)


def _gain(k: np.ndarray, n: np.ndarray, p: np.ndarray, r: np.ndarray) -> np.ndarray:
    return k * np.log(p / r) + (n - k) * np.log((1 - p) / (1 - r))


def _on_boundary(
    boundary: Boundary, one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest point (r1, r0) of the boundary under the alternative, for groups of these sizes, by bisection."""
    a, b = boundary
    (p1, n1), (p0, n0) = one, other
    if b == 0:
        return np.full_like(p1, a), p0
    if boundary == (0, 1):
        pooled = (n1 * p1 + n0 * p0) / np.maximum(n1 + n0, 1)
        return pooled, pooled
    low, high = np.zeros_like(p1), np.full_like(p1, min(1.0, (1 - a) / b))
    for _ in range(_BISECTIONS):
        r0 = (low + high) / 2
        r1 = a + b * r0
        slope = n1 * b * (p1 - r1) / (r1 * (1 - r1)) + n0 * (p0 - r0) / (r0 * (1 - r0))
        low, high = np.where(slope > 0, r0, low), np.where(slope > 0, high, r0)
    r0 = (low + high) / 2
    return a + b * r0, r0


def _log_sum(logs: np.ndarray) -> np.ndarray:
    """Logarithm of the sum along the last axis."""
    most = logs.max(axis=-1)
    safe = np.where(np.isfinite(most), most, 0.0)
    with np.errstate(divide="ignore"):
        return safe + np.log(np.exp(logs - safe[..., None]).sum(axis=-1))


def log_mean(logs: np.ndarray) -> float:
    """Logarithm of the mean of e-values, given by their logarithms: an e-value for all hypotheses together."""
    return float(_log_sum(logs)) - float(np.log(len(logs)))
