"""The judgement of a run: did the service hold its objective, and was it the service that was measured at all?"""

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
    """One term of the objective with what was measured, in the unit of its bound."""

    objective: Objective
    measured: float
    held: bool


def judge(found: LoadSummary, slo: Sequence[Objective]) -> list[LoadVerdict]:
    """Each term, held or missed."""
    return [
        LoadVerdict(
            term,
            term.measured(found.latency, found.errors, found.requests),
            term.held(found.latency, found.errors, found.requests),
        )
        for term in slo
    ]


def client_limit(found: LoadSummary, slo: Sequence[Objective]) -> str | None:
    """Why the figures say more about the generator than about the service; None when they do not.

    Where errors alone are judged it does not matter when requests left.
    """
    if slo and all(term.name == ERRORS for term in slo):
        return None
    late, bound = found.lateness["p99"], max(LATENESS_FLOOR_S, LATENESS_SHARE * found.waited["p99"])
    if late > bound:
        return (
            f"requests left {late * 1e3:.2f} ms late (p99), allowed are {bound * 1e3:.2f} ms: "
            f"the generator could not keep {found.asked_rps:,.0f} requests/s (it used {found.cpu_share:.0%} of a CPU)"
        )
    if found.finished_rps < _SHORT_OF * found.asked_rps and found.cpu_share > _BUSY_CPU:
        return (
            f"{found.finished_rps:,.0f} of {found.asked_rps:,.0f} requests/s were kept while the generator used "
            f"{found.cpu_share:.0%} of a CPU, with {found.under_way_mean:,.0f} requests under way on average"
        )
    return _undecided(found, slo)


def _undecided(found: LoadSummary, slo: Sequence[Objective]) -> str | None:
    for term in slo:
        if term.name == ERRORS or term.held(found.latency, 0, 1):
            continue
        if term.held(found.latency_sent, 0, 1):
            return (
                f"{term.text} is missed with {found.latency[term.name] * 1e3:.2f} ms, and held with "
                f"{found.latency_sent[term.name] * 1e3:.2f} ms when the generator's own lateness is taken out"
            )
    return None
