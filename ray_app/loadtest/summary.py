"""Summary of a run: rates, latencies, errors, and how busy and late the generator itself was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ray_app.loadtest.generator import Run
from ray_app.loadtest.percentiles import percentiles
from ray_app.loadtest.samples import Measured, kind_of


@dataclass(frozen=True)
class LoadSummary:
    """Figures of a whole run without warm-up; times in s, rates in requests/s, latencies by percentile name."""

    requests: int
    """Number of requests that have ended."""
    errors: int
    """Number of those that were not answered with 2xx."""
    unfinished: int
    """Number of requests under way when the run was interrupted."""
    asked_rps: float
    """Scheduled requests/s."""
    achieved_rps: float
    """Answers with 2xx per s, up to the last of them."""
    finished_rps: float
    """Ended requests per s, failed ones included, up to the last of them."""
    latency: dict[str, float]
    """From due to answered, over all requests; a failed one counts with the time limit at least."""
    latency_sent: dict[str, float]
    """As `latency`, but from sent to answered: without the generator's own lateness."""
    waited: dict[str, float]
    """From due to answered or failed, failures as measured; the generator's lateness is compared with it."""
    lateness: dict[str, float]
    """From due to sent: the generator's own delay."""
    kinds: dict[str, tuple[int, dict[str, float]]]
    """Number of requests and their latency by kind of outcome."""
    statuses: dict[str, int]
    """Number of answers by HTTP status."""
    cpu_share: float
    """CPU time of the generator per s; 1 is one full core."""
    under_way_mean: float
    """Mean number of requests queued or waiting for their answer; `under_way_max` is the largest."""
    under_way_max: int


def figures(run: Run, duration_s: float) -> LoadSummary:
    """Summarize a run whose schedule was `duration_s` long; an interrupted one up to its interruption."""
    measured = run.samples.measured()
    asked_s = max(min(duration_s, run.seconds), 1e-9)
    due = run.samples.due
    return LoadSummary(
        requests=len(measured.due),
        errors=int((~measured.good).sum()),
        unfinished=run.samples.unfinished,
        asked_rps=float(((due >= 0) & (due <= asked_s)).sum() / asked_s),
        achieved_rps=_rate(measured, measured.good, asked_s),
        finished_rps=_rate(measured, np.ones(len(measured.due), bool), asked_s),
        latency=percentiles(measured.judged(measured.latency)),
        latency_sent=percentiles(measured.judged(measured.latency - measured.lateness)),
        waited=percentiles(measured.latency),
        # Over all requests sent, also those without an answer yet.
        lateness=percentiles(run.samples.lateness[(due >= 0) & ~np.isnan(run.samples.lateness)]),
        kinds=_kinds(measured),
        statuses=measured.statuses(),
        cpu_share=run.cpu_share,
        under_way_mean=float(np.mean(run.under_way)) if run.under_way else 0.0,
        under_way_max=max(run.under_way, default=0),
    )


def _rate(measured: Measured, chosen: np.ndarray, asked_s: float) -> float:
    ends = (measured.due + measured.latency)[chosen]
    return len(ends) / max(asked_s, float(ends.max())) if len(ends) else 0.0


def _kinds(measured: Measured) -> dict[str, tuple[int, dict[str, float]]]:
    names = np.array([kind_of(outcome) for outcome in measured.outcome.tolist()], dtype=object)
    return {kind: (count, percentiles(measured.latency[names == kind])) for kind, count in measured.kinds().items()}


@dataclass(frozen=True)
class Second:
    """One second of a run; p50 and p99 in s of the requests due in it, failures as in LoadSummary, NaN for none."""

    start: int
    asked: int
    achieved: int
    errors: int
    p50: float
    p99: float


def seconds(run: Run) -> list[Second]:
    """The run second by second: asked and latencies by due time, achieved and errors by the time of their end."""
    measured = run.samples.measured()
    if not len(measured.due):
        return []
    judged = measured.judged(measured.latency)
    due, ended = measured.due.astype(int), (measured.due + measured.latency).astype(int)
    rows = []
    for start in range(int(ended.max()) + 1):
        latency = percentiles(judged[due == start])
        outcomes = measured.good[ended == start]
        good = int(outcomes.sum())
        asked = int((due == start).sum())
        rows.append(Second(start, asked, good, len(outcomes) - good, latency["p50"], latency["p99"]))
    return rows
