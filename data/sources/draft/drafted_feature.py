"""Drafted features: the line of a use-case file that declares a column, with what there is to look at beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data.sources.draft.column_profile import Column, Context, free_text, kept_as_words
from data.sources.draft.label_leakage import Suspect, copy_of, levels, telltale
from data.sources.draft.natural_bounds import Bounds, natural_bounds
from data.sources.draft.nominal_codes import asks_for_code
from data.sources.toml_text import quoted

_WITHIN_ENTITY = 0.1
_RANGED = ("number", "integer")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class DraftedFeature:
    """A feature's line of the use-case file, and what is needed to know its column for a copy of another."""

    line: str
    name: str
    suspect: Suspect | None
    levels: np.ndarray
    stored: bool = False
    """Whether the online store is a source of it."""

    def with_copies(self, suspects: list[Suspect]) -> str:
        """Return the line, marked if the column ranks the label alone or is computed from one that does."""
        suspect = self.suspect or copy_of(self.name, self.levels, suspects)
        return f"{self.line}; {suspect.mark}" if suspect else self.line


def draft_feature(column: Column, context: Context, online: bool) -> DraftedFeature:
    """Declare a column as a feature; `online` allows the online store as its source."""
    suspect = telltale(column, context)
    found = suspect.levels if suspect else levels(column, context)
    kind = _feature_type(column, context)
    stored = online and kind in _RANGED and _steady(column, context)
    return DraftedFeature(_feature_line(column, context, kind, stored), column.name, suspect, found, stored)


def _feature_line(column: Column, context: Context, kind: str, stored: bool) -> str:
    ranged = kind in _RANGED
    parts = [f'type = "{kind}"', 'source = "either"' if stored else 'source = "request"']
    if column.missing:
        parts.append("optional = true")
    code = ranged and asks_for_code(column, context)
    bounds = natural_bounds(column) if ranged and not code else Bounds()
    parts += [f"{name} = {value}" for name, value in zip(("min", "max"), bounds, strict=True) if value is not None]
    question = f"; {_code_question(column)}" if code else ""
    return f"{toml_key(column.name)} = {{ {', '.join(parts)} }}  # {remark(column, kind)}{question}"


def _feature_type(column: Column, context: Context) -> str:
    if pa.types.is_boolean(column.kind):
        return "boolean"
    if free_text(column, context):
        return "text"
    if column.text or kept_as_words(column, context):
        return "category"
    return "integer" if column.integer else "number"


def _code_question(column: Column) -> str:
    if column.integer:
        return 'a code or an amount? if a code: type = "category"'
    return 'a code or an amount? if a code: write it as integers or text, and type = "category"'


def _steady(column: Column, context: Context) -> bool:
    """Return whether a value describes the entity more than the row: under a tenth of its variance lies within."""
    if context.entities is None:
        return False
    finite = np.isfinite(column.floats)
    values, codes = column.floats[finite], context.entities[finite]
    counts = np.bincount(codes)
    if (counts > 1).sum() < 2:
        return False
    means = np.bincount(codes, values) / np.maximum(counts, 1)
    within = np.square(values - means[codes]).sum() / max(len(values) - (counts > 0).sum(), 1)
    return bool(within < _WITHIN_ENTITY * values.var())


def remark(column: Column, kind: str) -> str:
    """Return what there is to know of a feature's values: their range or words, and how many are missing."""
    missing = f", missing in {column.missing:,} rows{_empty(column)}" if column.missing else ""
    if kind == "text":
        return f"{column.distinct:,} different texts{missing}"
    if kind == "category":
        return f"{_words(column)}{missing}{_written_otherwise(column)}"
    if kind == "boolean":
        return f"true in {100 * np.nanmean(column.floats):.1f} %{missing}"
    finite = column.floats[np.isfinite(column.floats)]
    span = f"{finite.min():.6g} to {finite.max():.6g}" if len(finite) else "no finite value"
    merged = f"; {column.numbers.text}" if column.numbers.merged else ""
    return f"{span}, {column.distinct:,} different{missing}{merged}"


def _empty(column: Column) -> str:
    """Return how to keep '' as a word, where there are any."""
    if not column.empty:
        return ""
    share = "each" if column.empty == column.missing else f"{column.empty:,} of them"
    return f" ({share} ''; if that is a value: empty = \"value\")"


def _words(column: Column) -> str:
    common = column.present.value_counts().sort("descending", by="counts")
    words = ", ".join(quoted(str(item["values"].as_py())[:20]) for item in common[:4])
    return f"{column.distinct:,} different: {words}{', ...' if column.distinct > 4 else ''}"


def _written_otherwise(column: Column) -> str:
    """Say what a category may be taken for: numbers that are written as text, or the other way round."""
    if column.integer:
        return f"; as numbers {column.numbers.text}"
    return "; numbers written as text: convert the column if they are amounts" if column.decimals_as_text else ""


def toml_key(name: str) -> str:
    """Return a name as a key of TOML."""
    return name if _BARE_KEY.fullmatch(name) else quoted(name)
