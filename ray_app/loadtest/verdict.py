"""Verdict on a run: whether the service held its objectives, and whether the generator was the limit instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ray_app.loadtest.slo import ERRORS, Objective
from ray_app.loadtest.summary import LoadSummary

LATENESS_FLOOR_S = 0.002
LATENESS_SHARE = 0.2
_SHORT_OF = 0.98
_BUSY_CPU = 0.9


class LoadVerdict(NamedTuple):
    """One objective with the measured value, in the unit of its bound, and whether it was held."""

    objective: Objective
    measured: float
    held: bool


def judge(summary: LoadSummary, slo: Sequence[Objective]) -> list[LoadVerdict]:
    """Judge a run by each objective."""
    return [
        LoadVerdict(
            term,
            term.measured(summary.latency, summary.errors, summary.requests),
            term.held(summary.latency, summary.errors, summary.requests),
        )
        for term in slo
    ]


def client_limit(summary: LoadSummary, slo: Sequence[Objective]) -> str | None:
    """Why the run measured the generator rather than the service, as a sentence; None when it did not.

    That is so when the generator sent late (p99 over 2 ms and over a fifth of the latency's p99), when it missed the
    rate at over 90 % of a CPU, or when an objective is missed only because of its lateness. Never when errors alone
    are judged: for those it does not matter when requests left.
    """
    if slo and all(term.name == ERRORS for term in slo):
        return None
    late, bound = summary.lateness["p99"], max(LATENESS_FLOOR_S, LATENESS_SHARE * summary.waited["p99"])
    if late > bound:
        return (
            f"requests left {late * 1e3:.2f} ms late (p99), allowed are {bound * 1e3:.2f} ms: "
            f"the generator could not keep {summary.asked_rps:,.0f} requests/s "
            f"(it used {summary.cpu_share:.0%} of a CPU)"
        )
    if summary.finished_rps < _SHORT_OF * summary.asked_rps and summary.cpu_share > _BUSY_CPU:
        return (
            f"{summary.finished_rps:,.0f} of {summary.asked_rps:,.0f} requests/s were kept while the generator used "
            f"{summary.cpu_share:.0%} of a CPU, with {summary.under_way_mean:,.0f} requests under way on average"
        )
    return _undecided(summary, slo)


def _undecided(summary: LoadSummary, slo: Sequence[Objective]) -> str | None:
    for term in slo:
        if term.name == ERRORS or term.held(summary.latency, 0, 1):
            continue
        if term.held(summary.latency_sent, 0, 1):
            return (
                f"{term.text} is missed with {summary.latency[term.name] * 1e3:.2f} ms, and held with "
                f"{summary.latency_sent[term.name] * 1e3:.2f} ms when the generator's own lateness is taken out"
            )
    return None
