"""Report of a load test: JSON for programs, Markdown for people."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.sources.atomic_output import atomic_file
from ray_app.loadtest.percentiles import QUANTILES
from ray_app.loadtest.slo import ERRORS
from ray_app.loadtest.summary import LoadSummary, Second
from ray_app.loadtest.verdict import LoadVerdict

_FORMAT = 1


@dataclass(frozen=True)
class Setup:
    """Options of the run; `bodies` is the number of different request bodies, `started_at` an ISO time in UTC."""

    url: str
    profile: str
    rps: float
    duration_s: float
    warmup_s: float
    connections: int
    timeout_s: float
    bodies: int
    started_at: str


@dataclass(frozen=True)
class Result:
    """All contents of a report: options, summary, verdict by objective, seconds, and running replicas over time."""

    setup: Setup
    figures: LoadSummary
    verdict: Sequence[LoadVerdict]
    seconds: Sequence[Second]
    replicas: Sequence[tuple[float, dict[str, int]]]
    interrupted: bool

    @property
    def held(self) -> bool:
        """True when every objective was held, or none was asked for."""
        return all(judged.held for judged in self.verdict)


def document(result: Result) -> dict[str, Any]:
    """The report as a JSON object; latencies in ms, other times in s; null for a figure without values."""
    summary = result.figures
    return {
        "format": _FORMAT,
        "setup": vars(result.setup),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "interrupted": result.interrupted,
        "requests": summary.requests,
        "errors": summary.errors,
        "unfinished": summary.unfinished,
        "asked_rps": round(summary.asked_rps, 3),
        "achieved_rps": round(summary.achieved_rps, 3),
        "latency_ms": _all_ms(summary.latency),
        "outcomes": {kind: {"count": count, "ms": _all_ms(times)} for kind, (count, times) in summary.kinds.items()},
        "statuses": summary.statuses,
        "generator": {
            "lateness_ms": _all_ms(summary.lateness),
            "cpu_share": round(summary.cpu_share, 4),
            "under_way": {"mean": round(summary.under_way_mean, 1), "max": summary.under_way_max},
        },
        "slo": {"held": result.held, "terms": [_term(judged) for judged in result.verdict]} if result.verdict else None,
        "seconds": [{**vars(second), **_all_ms({"p50": second.p50, "p99": second.p99})} for second in result.seconds],
        "replicas": [{"at": round(at, 2), **counts} for at, counts in result.replicas],
    }


def markdown(result: Result) -> str:
    """The report as Markdown: options, table of latencies in ms, errors, verdict."""
    setup, summary = result.setup, result.figures
    lines = [
        f"## Load test of {setup.url}",
        "",
        f"{setup.profile}, at most {setup.rps:,g} requests/s for {setup.duration_s:g} s after {setup.warmup_s:g} s of "
        f"warm-up, {setup.started_at}" + (". **Interrupted: what was measured so far**" if result.interrupted else ""),
        "",
        f"- asked {summary.asked_rps:,.1f} requests/s, achieved {summary.achieved_rps:,.1f}; "
        f"{summary.requests:,} requests, {summary.errors:,} errors"
        + (f", {summary.unfinished:,} unfinished" if summary.unfinished else ""),
        f"- under way {summary.under_way_mean:.1f} on average, {summary.under_way_max:,} at most, "
        f"on up to {setup.connections:,} connections",
        f"- the generator: {_shown(summary.lateness['p99'])} ms late (p99), {summary.cpu_share:.0%} of a CPU",
        "",
        *_table(result),
        *_judgement(result),
    ]
    return "\n".join(lines) + "\n"


def write_json(path: Path, result: Result) -> None:
    """Write the JSON report.

    Raises:
        DataError: the file cannot be written.
    """
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(document(result), indent=1, allow_nan=False) + "\n", "utf-8")


def write_markdown(path: Path, result: Result) -> None:
    """Write the Markdown report.

    Raises:
        DataError: the file cannot be written.
    """
    with atomic_file(path) as partial:
        partial.write_text(markdown(result), "utf-8")


def _table(result: Result) -> Iterable[str]:
    yield "| latency, ms | requests | " + " | ".join(QUANTILES) + " |"
    yield "|---|" + "---:|" * (len(QUANTILES) + 1)
    summary = result.figures
    failed = f", failed ones as at least {result.setup.timeout_s:g} s" if summary.errors else ""
    yield _row(f"all{failed}", summary.requests, summary.latency)
    if summary.errors:
        for kind, (count, times) in summary.kinds.items():
            yield _row(kind, count, times)


def _row(name: str, count: int, times: Mapping[str, float]) -> str:
    return f"| {name} | {count:,} | " + " | ".join(_shown(times[quantile]) for quantile in QUANTILES) + " |"


def _judgement(result: Result) -> Iterable[str]:
    if not result.verdict:
        return
    yield ""
    yield f"**SLO {'held' if result.held else 'missed'}**"
    yield ""
    for judged in result.verdict:
        yield f"- {judged.objective.text}: {'held' if judged.held else 'MISSED'}, measured {_measured(judged)}"


def _measured(judged: LoadVerdict) -> str:
    if judged.objective.name == ERRORS:
        return f"{judged.measured:.3%}" if judged.objective.is_share else f"{judged.measured:,.0f}"
    return "no answer" if math.isnan(judged.measured) else f"{_shown(judged.measured)} ms"


def _term(judged: LoadVerdict) -> dict[str, Any]:
    factor = 1 if judged.objective.name == ERRORS else 1e3
    measured = None if math.isnan(judged.measured) else judged.measured * factor
    return {
        "term": judged.objective.text,
        "bound": judged.objective.bound * factor,
        "measured": measured,
        "held": judged.held,
    }


def _all_ms(times: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _ms_or_none(value) for name, value in times.items()}


def _ms_or_none(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds * 1e3, 4)


def _shown(seconds: float) -> str:
    if math.isnan(seconds):
        return ""
    ms = seconds * 1e3
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"
