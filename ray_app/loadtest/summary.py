"""The figures of a run: rates, latencies, errors, and what is known about the generator itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ray_app.loadtest.generator import Run
from ray_app.loadtest.percentiles import percentiles
from ray_app.loadtest.samples import Measured, kind_of


@dataclass(frozen=True)
class LoadSummary:
    """All times in s, all rates in requests/s, warm-up left out."""

    requests: int
    """Requests that are over."""
    errors: int
    """Of them, those not answered with 2xx."""
    unfinished: int
    """Requests that were under way at an interruption."""
    asked_rps: float
    achieved_rps: float
    """Answers with 2xx a second, up to the last of them."""
    finished_rps: float
    """The same for all requests, failed ones included."""
    latency: dict[str, float]
    """From due to answered, over all requests; one that failed counts with no less than the time limit."""
    latency_sent: dict[str, float]
    """The same from sent to answered: without the generator's own lateness."""
    waited: dict[str, float]
    """From due to answered or failed, each as it was: what the generator's lateness is held against."""
    lateness: dict[str, float]
    """From due to sent."""
    kinds: dict[str, tuple[int, dict[str, float]]]
    """Count and latency by kind of outcome."""
    statuses: dict[str, int]
    cpu_share: float
    under_way_mean: float
    under_way_max: int


def figures(run: Run, duration_s: float) -> LoadSummary:
    """Sum up a run whose schedule was `duration_s` long."""
    seen = run.samples.measured()
    asked_s = max(min(duration_s, run.seconds), 1e-9)
    due = run.samples.due
    return LoadSummary(
        requests=len(seen.due),
        errors=int((~seen.good).sum()),
        unfinished=run.samples.unfinished,
        asked_rps=float(((due >= 0) & (due <= asked_s)).sum() / asked_s),
        achieved_rps=_rate(seen, seen.good, asked_s),
        finished_rps=_rate(seen, np.ones(len(seen.due), bool), asked_s),
        latency=percentiles(seen.judged(seen.latency)),
        latency_sent=percentiles(seen.judged(seen.latency - seen.lateness)),
        waited=percentiles(seen.latency),
        # Requests that are still under way were sent as well, late or not.
        lateness=percentiles(run.samples.lateness[(due >= 0) & ~np.isnan(run.samples.lateness)]),
        kinds=_kinds(seen),
        statuses=seen.statuses(),
        cpu_share=run.cpu_share,
        under_way_mean=float(np.mean(run.under_way)) if run.under_way else 0.0,
        under_way_max=max(run.under_way, default=0),
    )


def _rate(seen: Measured, chosen: np.ndarray, asked_s: float) -> float:
    ends = (seen.due + seen.latency)[chosen]
    return len(ends) / max(asked_s, float(ends.max())) if len(ends) else 0.0


def _kinds(seen: Measured) -> dict[str, tuple[int, dict[str, float]]]:
    names = np.array([kind_of(outcome) for outcome in seen.outcome.tolist()], dtype=object)
    return {kind: (count, percentiles(seen.latency[names == kind])) for kind, count in seen.kinds().items()}


@dataclass(frozen=True)
class Second:
    """One second of a run; latencies in s by due time, failures as in Figures, NaN when nothing was due."""

    start: int
    asked: int
    achieved: int
    errors: int
    p50: float
    p99: float


def seconds(run: Run) -> list[Second]:
    """The run second by second: asked and latency by due time, achieved and errors by when they ended."""
    seen = run.samples.measured()
    if not len(seen.due):
        return []
    judged = seen.judged(seen.latency)
    began, ended = seen.due.astype(int), (seen.due + seen.latency).astype(int)
    found = []
    for start in range(int(ended.max()) + 1):
        here = percentiles(judged[began == start])
        at_end = seen.good[ended == start]
        good = int(at_end.sum())
        asked = int((began == start).sum())
        found.append(Second(start, asked, good, len(at_end) - good, here["p50"], here["p99"]))
    return found
