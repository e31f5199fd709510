"""The validation report: HTML or Markdown files, and a few lines for the terminal."""

from __future__ import annotations

from html import escape
from pathlib import Path

from data.errors import DataError
from data.validation import coverage_report
from data.validation.bad_rows import bad_row_numbers
from data.validation.hits import BAD_ROWS_KEPT
from data.validation.stored_values import HEADER
from data.validation.validation import ColumnSummary, Validation

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; color: #1c2024 }
h1 { font-size: 1.5rem; margin-bottom: .25rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.verdict { padding: .6rem 1rem; border-radius: .4rem; font-weight: 600 }
.clean { background: #e3f4e6; color: #145523 } .problems { background: #fdeaea; color: #8a1c1c }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .35rem .7rem }
th { border-bottom: 2px solid #c9ced6; font-weight: 600 } td { border-bottom: 1px solid #e6e8ec }
td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums }
@media (prefers-color-scheme: dark) {
  body { background: #16181b; color: #e4e6ea } .clean { background: #17351d; color: #b5e6bf }
  .problems { background: #431a1a; color: #f6c1c1 } th { border-color: #4a4f57 } td { border-color: #2c3036 }
}
"""

_Rows = list[list[str]]


def check_name(target: Path) -> None:
    """Raise DataError unless the report's name ends in .html or .md."""
    if target.suffix.lower() not in (".html", ".md"):
        raise DataError(f"--report {target}: the name must end in .html or .md")


def render(validation: Validation, target: Path) -> str:
    """Return the report as text, in HTML or Markdown by the target's suffix; raises DataError as `check_name`."""
    check_name(target)
    return _html(validation) if target.suffix.lower() == ".html" else _markdown(validation)


def summary(validation: Validation) -> str:
    """Return the report in a few lines for the terminal."""
    lines = [f"{validation.path}: {validation.rows:,} rows, use case {validation.use_case}", verdict(validation)]
    lines += [f"  {text}" for text in validation.whole]
    lines += [f"  {column}: {reason}: {count} rows" for column, reason, count, _ in _problems(validation)]
    lines += [f"note: {text}" for text in validation.notes]
    lines += validation.stored.lines() if validation.stored else []
    if validation.coverage:
        lines += coverage_report.lines(validation, validation.coverage)
    return "\n".join(lines)


def verdict(validation: Validation) -> str:
    """Return one sentence: the table is clean, or the number of problems, and of the rows that have one."""
    if validation.clean:
        return "clean: nothing wrong was found"
    kinds = len(validation.hits) + len(validation.whole)
    plural = "problem" if kinds == 1 else "problems"
    rows = f"; {len(validation.bad_rows):,} rows have at least one" if validation.hits else ""
    return f"{kinds} {plural} found{rows}"


def _problems(validation: Validation) -> _Rows:
    problems = sorted(validation.hits.items(), key=lambda item: -item[1].count)
    return [[c, r, f"{h.count:,}", ", ".join(map(str, sorted(h.rows.tolist())[:3]))] for (c, r), h in problems]


def _columns(validation: Validation) -> _Rows:
    return [_column(name, validation.types[name], column) for name, column in validation.columns.items()]


def _column(name: str, kind: str, column: ColumnSummary) -> list[str]:
    counts = [f"{count:,}" for count in (column.nulls, column.nans, column.empties, column.infinities)]
    return [name, kind, *counts, _value(column.low), _value(column.high)]


def _value(value: float | str | None) -> str:
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else f"{value:.40}"


def _sections(validation: Validation) -> list[tuple[str, list[str], _Rows]]:
    sections: list[tuple[str, list[str], _Rows]] = []
    if problems := _problems(validation):
        sections.append(("Problems", ["column", "what is wrong", "rows", "first row numbers"], problems))
    if covered := validation.coverage:
        title = f"Against {covered.model.title}"
        sections.append((title, coverage_report.HEADER, coverage_report.rows(validation, covered)))
    if stored := validation.stored:
        sections.append((stored.title.capitalize(), HEADER, stored.rows()))
    return [
        *sections,
        ("Label", validation.labels.header, validation.labels.rows()),
        (
            "Columns",
            ["column", "type", "nulls", "NaN", "empty", "infinite", "smallest", "largest"],
            _columns(validation),
        ),
    ]


def _html(validation: Validation) -> str:
    state = "clean" if validation.clean else "problems"
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Validation of {escape(validation.path)}</title>",
        f"<meta name='viewport' content='width=device-width'><style>{_STYLE}</style>",
        f"<h1>Validation of {escape(validation.path)}</h1>",
        f"<p>{validation.rows:,} rows, use case <b>{escape(validation.use_case)}</b></p>",
        f"<p class='verdict {state}'>{escape(verdict(validation))}</p>",
        *(f"<p>{escape(text)}</p>" for text in [*validation.whole, *_notes(validation)]),
    ]
    for title, header, rows in _sections(validation):
        parts += [f"<h2>{escape(title)}</h2><table>", _html_row("th", header), *(_html_row("td", row) for row in rows)]
        parts.append("</table>")
    return "\n".join([*parts, "</html>", ""])


def _html_row(tag: str, cells: list[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _markdown(validation: Validation) -> str:
    parts = [
        f"# Validation of {validation.path}",
        f"{validation.rows:,} rows, use case {validation.use_case}",
        f"**{verdict(validation)}**",
        *validation.whole,
        *_notes(validation),
    ]
    for title, header, rows in _sections(validation):
        lines = [_markdown_row(header), _markdown_row(["---"] * len(header)), *(_markdown_row(row) for row in rows)]
        parts += [f"## {title}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _notes(validation: Validation) -> list[str]:
    notes = [f"Note: {text}" for text in validation.notes]
    if len(bad_row_numbers(validation)) > BAD_ROWS_KEPT:
        notes.append(f"Of the bad rows, the first {BAD_ROWS_KEPT:,} are written out.")
    if covered := validation.coverage:
        notes += [f"{text[0].upper()}{text[1:]}." for text in (coverage_report.headline(covered), *covered.notes)]
    return notes
