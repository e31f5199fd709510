"""Statistics over benchmark rounds, and the Markdown tables and sections of `docs/performance.md`."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

PERCENTILES = {"p50": 500, "p95": 950, "p99": 990, "p99.9": 999}
"""Ranks by name, in thousandths."""
_INTRO = """# Performance

Figures are medians over interleaved rounds, written here by the commands that they name. They belong to the
machine that each section describes, load generator included: compare within a table, not across machines.
"""


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles in ms of latencies in s, by nearest rank: each is one of the samples; NaN without samples."""
    if not seconds:
        return dict.fromkeys(PERCENTILES, float("nan"))
    ordered = sorted(seconds)
    return {name: ordered[-(-len(ordered) * rank // 1000) - 1] * 1000 for name, rank in PERCENTILES.items()}


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure over the rounds; a figure that a round lacks counts as 0 in it."""
    names = list(dict.fromkeys(name for figures in rounds for name in figures))
    return {name: statistics.median(figures.get(name, 0.0) for figures in rounds) for name in names}


def spread(values: Sequence[float]) -> float:
    """Relative spread: (max - min) / median; 0 for a single value."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def short(value: float) -> str:
    """Format with three significant digits and thousands separators; `-` for NaN."""
    if value != value:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".") if value else "0"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with padded cells; the first column is aligned left, the others right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [_padded(line, widths) for line in (lines[0], rule, *lines[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = line
    return [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]


def replace_section(text: str, name: str, body: str) -> str:
    """Replace what is between the markers of section `name` with `body`; append the section if it has no markers."""
    start, end = f"<!-- {name}: start -->", f"<!-- {name}: end -->"
    section = f"{start}\n{body.strip()}\n{end}"
    before, marker, rest = text.partition(start)
    if not marker:
        return f"{text.rstrip()}\n\n{section}\n"
    return before + section + rest.partition(end)[2]


def write_section(path: Path, name: str, body: str) -> None:
    """Replace or append one section of a Markdown file, atomically; other sections stay as they are."""
    text = path.read_text() if path.exists() else _INTRO
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(replace_section(text, name, body))
    os.replace(scratch, path)
