"""A load test's result as JSON for programs and as Markdown for people."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.sources.parquet import atomic_file
from ray_app.loadtest.percentiles import QUANTILES
from ray_app.loadtest.slo import ERRORS
from ray_app.loadtest.summary import LoadSummary, Second
from ray_app.loadtest.verdict import LoadVerdict

_FORMAT = 1


@dataclass(frozen=True)
class Setup:
    """What was asked for."""

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
    """All that a report tells."""

    setup: Setup
    figures: LoadSummary
    verdict: Sequence[LoadVerdict]
    seconds: Sequence[Second]
    replicas: Sequence[tuple[float, dict[str, int]]]
    interrupted: bool

    @property
    def held(self) -> bool:
        """True when every term of the objective was held, or none was asked."""
        return all(judged.held for judged in self.verdict)


def document(result: Result) -> dict[str, Any]:
    """The JSON document; times in ms, a figure that does not exist is null."""
    found = result.figures
    return {
        "format": _FORMAT,
        "setup": vars(result.setup),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "interrupted": result.interrupted,
        "requests": found.requests,
        "errors": found.errors,
        "unfinished": found.unfinished,
        "asked_rps": round(found.asked_rps, 3),
        "achieved_rps": round(found.achieved_rps, 3),
        "latency_ms": _ms(found.latency),
        "outcomes": {kind: {"count": count, "ms": _ms(times)} for kind, (count, times) in found.kinds.items()},
        "statuses": found.statuses,
        "generator": {
            "lateness_ms": _ms(found.lateness),
            "cpu_share": round(found.cpu_share, 4),
            "under_way": {"mean": round(found.under_way_mean, 1), "max": found.under_way_max},
        },
        "slo": {"held": result.held, "terms": [_term(judged) for judged in result.verdict]} if result.verdict else None,
        "seconds": [{**vars(second), "p50": _one(second.p50), "p99": _one(second.p99)} for second in result.seconds],
        "replicas": [{"at": round(at, 2), **counts} for at, counts in result.replicas],
    }


def markdown(result: Result) -> str:
    """The summary: setup, table of latencies, errors, verdict."""
    setup, found = result.setup, result.figures
    lines = [
        f"## Load test of {setup.url}",
        "",
        f"{setup.profile}, at most {setup.rps:,g} requests/s for {setup.duration_s:g} s after {setup.warmup_s:g} s of "
        f"warm-up, {setup.started_at}" + (". **Interrupted: what was measured so far**" if result.interrupted else ""),
        "",
        f"- asked {found.asked_rps:,.1f} requests/s, achieved {found.achieved_rps:,.1f}; "
        f"{found.requests:,} requests, {found.errors:,} errors"
        + (f", {found.unfinished:,} unfinished" if found.unfinished else ""),
        f"- under way {found.under_way_mean:.1f} on average, {found.under_way_max:,} at most, "
        f"on up to {setup.connections:,} connections",
        f"- the generator: {_shown(found.lateness['p99'])} ms late (p99), {found.cpu_share:.0%} of a CPU",
        "",
        *_table(result),
        *_judgement(result),
    ]
    return "\n".join(lines) + "\n"


def write_json(path: Path, result: Result) -> None:
    """Write the document; raises DataError when the place cannot be written to."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(document(result), indent=1, allow_nan=False) + "\n", "utf-8")


def write_markdown(path: Path, result: Result) -> None:
    """Write the summary; raises DataError when the place cannot be written to."""
    with atomic_file(path) as partial:
        partial.write_text(markdown(result), "utf-8")


def _table(result: Result) -> Iterable[str]:
    yield "| latency, ms | requests | " + " | ".join(QUANTILES) + " |"
    yield "|---|" + "---:|" * (len(QUANTILES) + 1)
    found = result.figures
    failed = f", failed ones as at least {result.setup.timeout_s:g} s" if found.errors else ""
    yield _row(f"all{failed}", found.requests, found.latency)
    if found.errors:
        for kind, (count, times) in found.kinds.items():
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


def _ms(times: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _one(value) for name, value in times.items()}


def _one(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds * 1e3, 4)


def _shown(seconds: float) -> str:
    if math.isnan(seconds):
        return ""
    ms = seconds * 1e3
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"
