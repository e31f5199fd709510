"""Renders the serving section of `docs/performance.md`: tables of medians over rounds, and of ratios."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, medians, short, spread
from benchmarks.servers import processes
from benchmarks.servers.kinds import FASTAPI, GRAPH, KINDS, RAY_TUTORIAL

OTHERS, SATURATED, LOST, LATE = "others", "saturated", "lost", "late"
_LATENCY = ("p50", "p99", "p99.9")
_PACKAGES = ("ray", "onnxruntime", "xgboost", "numpy", "fastapi", "uvicorn", "uvloop", "httptools", "pydantic")
_NAN = float("nan")
Figures = dict[str, float]


class Load(NamedTuple):
    """A load: a number of connections in a closed loop, or a rate in requests/s in an open loop."""

    is_open: bool
    size: int

    def __str__(self) -> str:
        return f"{self.size:,}/s" if self.is_open else f"{self.size} connection{'s' if self.size > 1 else ''}"


@dataclass
class Outcome:
    """Results of a benchmark run: figures of each round by server and load, and why servers have none."""

    args: argparse.Namespace
    argv: Sequence[str]
    samples: dict[tuple[str, Load], list[Figures]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def medians(self) -> dict[tuple[str, Load], Figures]:
        """One set of figures by server and load. A load that half of the rounds saturated counts as saturated."""
        found = {}
        for key, rounds in self.samples.items():
            whole = [figures for figures in rounds if "p50" in figures]
            saturated = sum(figures[SATURATED] for figures in rounds) * 2 >= len(rounds)
            found[key] = {**medians(whole), SATURATED: float(saturated)}
        return found


def section_name(count: int) -> str:
    """Name of the section for a run with `count` processes."""
    return "benchmarks.serving" if count == 1 else "benchmarks.serving.processes"


def section(outcome: Outcome, versions: Mapping[str, str], drawing: Path | None) -> str:
    """Render the section as Markdown; `drawing` is the file name of the plot beside the page."""
    args, result = outcome.args, outcome.medians()
    one = args.processes == 1
    parts = [
        "## Serving" if one else f"## Serving, {args.processes} processes each",
        _what(args),
        _circumstances(outcome, versions),
        f"![Serving compared]({drawing.name})" if drawing else "",
        _closed(result),
        _open(result),
        _memory(result),
        _headline(result),
        _left_out(outcome),
    ]
    return "\n\n".join(part for part in parts if part)


def serving_cpu(figures: Figures) -> float:
    """CPU ms per request, summed over the processes that a request passes through."""
    return sum(v for name, v in figures.items() if name.startswith("cpu ") and name not in _BESIDE)


_BESIDE = (f"cpu {processes.OTHER}", "cpu load")


def _what(args: argparse.Namespace) -> str:
    many = "one process" if args.processes == 1 else f"{args.processes} processes"
    replicas = "one replica" if args.processes == 1 else f"{args.processes} replicas"
    return (
        f"The same model behind each server. Every request reads one of {args.entities:,} rows of a SQLite store; "
        "every server's answers were held against the expected probabilities, equal bit for bit (XGBoost's own "
        f"predictor: to 1e-6). Peers score in {many} (LitServe has as many more for HTTP), on Ray each deployment "
        f"has {replicas}. *CPU* is CPU ms a request of what serves (replicas and proxy; all of a peer without Ray), "
        "*rest* that of the other processes of Ray. *x* columns are ratios to "
        f"{KINDS[FASTAPI].title}. Latencies in ms."
    )


def _circumstances(outcome: Outcome, versions: Mapping[str, str]) -> str:
    args = outcome.args
    whole = [figures for rounds in outcome.samples.values() for figures in rounds if "p50" in figures]
    others = [figures[OTHERS] for figures in whole]
    late = max((figures[LATE] for figures in whole if LATE in figures), default=0.0)
    closed = [rounds for (_, load), rounds in outcome.samples.items() if not load.is_open]
    wobble = max((spread([figures["req/s"] for figures in rounds]) for rounds in closed), default=0.0)
    lines = [machine.describe("benchmarks.serving", outcome.argv, _PACKAGES)]
    if versions:
        lines.append("- in environments of their own: " + ", ".join(f"{k} {v}" for k, v in versions.items()))
    lines += [
        f"- {args.rounds} rounds of {args.seconds:g} s after {args.warm_up:g} s of warm-up, servers one after the "
        "other in every round; no answer of a closed loop had an error",
        f"- other programs used {min(others):.0%} to {max(others):.0%} of the machine meanwhile; req/s of closed "
        f"loops differed by up to {wobble:.0%} between the rounds; the load generator sent at most {short(late)} ms "
        "late (p99 of its worst open loop)",
    ]
    return "\n".join(lines)


def _closed(result: dict[tuple[str, Load], Figures]) -> str:
    header = ["server", "connections", *_LATENCY, "req/s", "CPU", "rest", "p50 x", "req/s x", "CPU x"]
    rows = []
    for (name, load), figures in _ordered(result, is_open=False):
        peer = result.get((FASTAPI, load), {})
        served = serving_cpu(figures)
        shown = [*(figures[key] for key in (*_LATENCY, "req/s")), served, figures.get(_BESIDE[0], 0.0)]
        ratios = [figures[key] / peer.get(key, _NAN) for key in ("p50", "req/s")]
        ratios.append(served / serving_cpu(peer) if peer else _NAN)
        rows.append([name, str(load.size), *map(short, [*shown, *ratios])])
    intro = "Closed loop: each connection sends its next request when its answer has come."
    return f"{intro}\n\n{markdown_table(header, rows)}" if rows else ""


def _open(result: dict[tuple[str, Load], Figures]) -> str:
    header = ["server", "rate/s", *_LATENCY, "answered/s", "CPU", "p50 x", "p99 x", "CPU x"]
    rows = []
    for (name, load), figures in _ordered(result, is_open=True):
        start = [name, f"{load.size:,}"]
        if figures[SATURATED]:
            answered = short(figures["req/s"]) if "req/s" in figures else "-"
            rows.append([*start, SATURATED, *["-"] * (len(_LATENCY) - 1), answered, *["-"] * 4])
            continue
        peer = result.get((FASTAPI, load), {})
        served = serving_cpu(figures)
        shown = [*(figures[key] for key in _LATENCY), figures["req/s"], served]
        ratios = [figures[key] / peer.get(key, _NAN) for key in ("p50", "p99")]
        ratios.append(served / serving_cpu(peer) if serving_cpu(peer) else _NAN)
        rows.append([*start, *map(short, [*shown, *ratios])])
    intro = (
        "Open loop: requests are due at a constant rate, whatever the server does, and latency counts from when each "
        "was due. *saturated*: more than 1 % of the requests had no answer after 2 s; higher rates are not tried then."
    )
    return f"{intro}\n\n{markdown_table(header, rows)}" if rows else ""


def _memory(result: dict[tuple[str, Load], Figures]) -> str:
    """Parts of each server under its last load that was measured: memory, CPU and processes."""
    last: dict[str, tuple[Load, Figures]] = {}
    for (name, load), figures in _ordered(result, is_open=False):
        last[name] = load, figures
    rows = []
    for name, (_, figures) in last.items():
        parts = sorted((key[4:] for key in figures if key.startswith("mib ")), key=lambda part: part == processes.OTHER)
        for part in parts:
            shown = (figures[f"mib {part}"], figures.get(f"cpu {part}", 0.0), figures[f"n {part}"])
            rows.append([f"{name}: {part}", *map(short, shown), short(figures["ready_s"])])
    if not rows:
        return ""
    intro = "By part, at the most connections: memory (PSS) in MiB, CPU ms a request, processes; s until ready."
    return f"{intro}\n\n{markdown_table(['part', 'MiB', 'CPU', 'processes', 'ready after'], rows)}"


def _headline(result: dict[tuple[str, Load], Figures]) -> str:
    loads = [load for name, load in result if name == GRAPH and not load.is_open and (RAY_TUTORIAL, load) in result]
    if not loads:
        return ""
    load = max(loads)
    ours, tutorial = result[GRAPH, load], result[RAY_TUTORIAL, load]
    rest = _BESIDE[0]
    whole = (serving_cpu(ours) + ours.get(rest, 0.0)) / (serving_cpu(tutorial) + tutorial.get(rest, 0.0))
    return (
        f"At {load} the graph takes {serving_cpu(ours) / serving_cpu(tutorial):.3f}x the CPU a request of Ray Serve as "
        f"in its tutorials ({whole:.3f}x with the rest of Ray), and answers {ours['req/s'] / tutorial['req/s']:.0f}x "
        "as many."
    )


def _left_out(outcome: Outcome) -> str:
    lines = [f"- {name} is not compared: {why}" for name, why in outcome.absent.items()]
    lines += [f"- {name} failed and was not measured further: {why}" for name, why in outcome.failed.items()]
    return "\n".join(lines)


def _ordered(result: dict[tuple[str, Load], Figures], is_open: bool) -> list[tuple[tuple[str, Load], Figures]]:
    chosen = [item for item in result.items() if item[0][1].is_open == is_open]
    return sorted(chosen, key=lambda item: item[0][1].size)
