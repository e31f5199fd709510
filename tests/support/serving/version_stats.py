"""Version statistics as gateways report them, drawn by a seeded generator."""

from __future__ import annotations

import numpy as np

from data.schema.outputs.base_output import LOGIT_EDGES
from ray_app.rollout.version_stats import LATENCY_EDGES_S, VersionStats


def drawn(
    rng: np.random.Generator,
    requests: int,
    errors: float = 0.0,
    slow: float = 0.0,
    shift: float = 0.0,
    refused: float = 0.0,
) -> VersionStats:
    """A second of a version: shares of failed, refused and slow (0.2 s) requests, scores shifted by so many logits."""
    failed = int(rng.binomial(requests, errors))
    denied = int(rng.binomial(requests - failed, refused))
    answered = requests - failed - denied
    latencies = np.where(rng.random(answered) < slow, 0.2, 0.002)
    scores = 1 / (1 + np.exp(-rng.normal(-2 + shift, 1.5, answered)))
    return VersionStats(
        answered,
        failed,
        denied,
        np.bincount(np.searchsorted(LATENCY_EDGES_S, latencies), minlength=len(LATENCY_EDGES_S) + 1),
        np.bincount(np.searchsorted(LOGIT_EDGES, scores), minlength=len(LOGIT_EDGES) + 1),
        int((scores >= 0.5).sum()),
        requests,
        denied,
        marks="labelled 1",
    )
