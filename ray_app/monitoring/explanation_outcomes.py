"""How the explanations that requests asked for ended: the outcomes, and the metric of a gateway that counts them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from ray_app.protocol.explanation_fields import UNEXPLAINED

GIVEN = "given"


class ExplanationOutcomes:
    """Counts answers that were to be explained by what became of it; use it from the event loop.

    Args:
        registry: of the gateway's metrics.
        replica: value of the label `replica`.
    """

    def __init__(self, registry: CollectorRegistry, replica: str) -> None:
        counter = Counter(
            "rayscore_explanations_total",
            "Answers whose explanation was asked for, by outcome.",
            ["replica", "outcome"],
            registry=registry,
        )
        # Series exist from 0 on: an alert's rate() needs a value from before the first failure.
        self._outcomes = {outcome: counter.labels(replica, outcome) for outcome in (GIVEN, *UNEXPLAINED)}

    def count(self, outcome: str, rows: int) -> None:
        """Count the answers of `rows` rows: GIVEN, or one of `UNEXPLAINED`."""
        self._outcomes[outcome].inc(rows)
