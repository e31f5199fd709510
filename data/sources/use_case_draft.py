"""Drafts of use-case files: the likely role of each column of a table, and why some are left out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.schema.use_case import parse_use_case
from data.sources.column_profile import ID_NAME, RULES, Column, Context, quoted
from data.sources.parquet import ParquetSource, open_source, read_table
from data.transform.event_time import event_us, fits_event_time
from data.transform.missing import blank_as_null

ROWS_READ = 2_000_000
"""Number of rows, from the start of the table, that a draft is made from."""

_TELLTALE_AUC = 0.95
_WITHIN_ENTITY = 0.1
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def draft(
    path: Path,
    label: str,
    entity: str | None = None,
    time: str | None = None,
    key: str | None = None,
    name: str | None = None,
) -> str:
    """Return the text of a use-case file for a table, checked by the parser that will read it.

    Args:
        path: Parquet file or folder.
        label: column to predict.
        entity: column of the entity, if there is one.
        time: column of the event time, if there is one.
        key: column that identifies a row; by default the first that looks like it.
        name: name of the use case; by default made of the path.

    Raises:
        DataError: a named column is missing, the label is not binary or of one class, or no feature is left.
    """
    source = open_source(path)
    roles = {"label": label, "entity": entity, "time": time, "key": key}
    _check_roles(source, roles)
    context = Context(
        _labels(_read(source, label)),
        _times(source, time) if time else None,
        _entities(_read(source, entity)) if entity else None,
    )
    kept: list[str] = []
    left_out: list[str] = []
    for column in (_read(source, n) for n in source.schema.names if n not in roles.values()):
        reason = next((reason for rule in RULES if (reason := rule(column, context))), None)
        if reason:
            left_out.append(f"# left out: {quoted(column.name)}: {reason}")
            key = key or _as_key(column)
        else:
            kept.append(_feature_line(column, context, online=bool(entity and time)))
    if not kept:
        raise DataError(f"{path}: no column is fit to be a feature:\n" + "\n".join(left_out).replace("# ", ""))
    head = _head(source, name or _name(path), roles | {"key": key}, context)
    text = "\n".join([*head, *_entity_lines(source, entity), *_feature_head(), *kept, *left_out, *_tail(context)])
    parse_use_case(text, f"draft for {path}")
    return text


def _check_roles(source: ParquetSource, roles: dict[str, str | None]) -> None:
    named = [name for name in roles.values() if name]
    source.require(named)
    twice = [name for name in named if named.count(name) > 1]
    if twice:
        raise DataError(f"{source.path}: column '{twice[0]}' is named for two purposes")
    if (time := roles["time"]) is not None:
        kind = source.schema.field(time).type
        source.require_type(time, fits_event_time(kind), "timestamps, dates, ISO strings or whole numbers")


def _read(source: ParquetSource, name: str) -> Column:
    values = read_table(source.path, [name], ROWS_READ).column(0)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return Column(name, values)


def _labels(column: Column) -> np.ndarray:
    distinct = column.present.unique().slice(0, 5).to_pylist()
    shown = ", ".join(map(repr, distinct)) + (", ..." if column.distinct > len(distinct) else "")
    if not (column.number or pa.types.is_boolean(column.kind)) or not set(distinct) <= {0, 1}:
        raise DataError(f"label '{column.name}' must hold 0 and 1, or false and true; it holds {shown}: recode it")
    if column.missing:
        raise DataError(f"label '{column.name}' is missing in {column.missing:,} rows: drop those rows")
    if column.distinct < 2:
        raise DataError(f"label '{column.name}' has one class only ({shown}): there is nothing to learn")
    return column.floats


def _times(source: ParquetSource, name: str) -> np.ndarray:
    try:
        return event_us(_read(source, name).values, name)
    except DataError as exc:
        raise DataError(f"{source.path}: {exc}") from exc


def _entities(column: Column) -> np.ndarray:
    """Return entities as integer codes from 0; blank ones have a code of their own."""
    codes = blank_as_null(column.values).combine_chunks().dictionary_encode(null_encoding="encode").indices
    return codes.to_numpy(zero_copy_only=False).astype(np.int64)


def _as_key(column: Column) -> str | None:
    """Return the column's name when it could be the key of the rows: unique, never missing, named like one."""
    unique = (column.text or column.integer) and not column.missing and column.distinct == len(column.values)
    return column.name if unique and ID_NAME.search(column.name) else None


def _feature_line(column: Column, context: Context, online: bool) -> str:
    kind = _feature_type(column)
    either = online and column.number and _steady(column, context)
    parts = [f'type = "{kind}"', 'source = "either"' if either else 'source = "request"']
    if column.missing:
        parts.append("optional = true")
    return f"{_toml_key(column.name)} = {{ {', '.join(parts)} }}  # {_remark(column, context)}"


def _feature_type(column: Column) -> str:
    if pa.types.is_boolean(column.kind):
        return "boolean"
    if column.text:
        return "category"
    return "integer" if column.integer else "number"


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


def _remark(column: Column, context: Context) -> str:
    missing = f", missing in {column.missing:,} rows{_empty(column)}" if column.missing else ""
    if column.text:
        common = column.present.value_counts().sort("descending", by="counts")
        words = ", ".join(quoted(item["values"].as_py()[:20]) for item in common[:4])
        return f"{column.distinct:,} different: {words}{', ...' if column.distinct > 4 else ''}{missing}"
    if not column.number:
        return f"true in {100 * np.nanmean(column.floats):.1f} %{missing}"
    finite = column.floats[np.isfinite(column.floats)]
    span = f"{finite.min():.6g} to {finite.max():.6g}" if len(finite) else "no finite value"
    return f"{span}, {column.distinct:,} different{missing}{_suspicion(column, context)}"


def _empty(column: Column) -> str:
    """Return how to keep '' as a word, where there are any."""
    if not column.empty:
        return ""
    share = "each" if column.empty == column.missing else f"{column.empty:,} of them"
    return f" ({share} ''; if that is a value: empty = \"value\")"


def _suspicion(column: Column, context: Context) -> str:
    finite = np.isfinite(column.floats)
    auc = _auc(column.floats[finite], context.label[finite])
    if max(auc, 1 - auc) < _TELLTALE_AUC:
        return ""
    return f"; CAREFUL: alone it ranks the label with AUC {max(auc, 1 - auc):.3f}: is it known beforehand?"


def _auc(values: np.ndarray, label: np.ndarray) -> float:
    """Return the area under the ROC curve by the Mann-Whitney statistic, ties counted half."""
    _, codes = np.unique(values, return_inverse=True)
    positives, totals = np.bincount(codes, label), np.bincount(codes)
    negatives = totals - positives
    below = np.cumsum(negatives) - negatives
    pairs = positives.sum() * negatives.sum()
    return float((positives * (below + negatives / 2)).sum() / pairs) if pairs else 0.5


def _head(source: ParquetSource, name: str, roles: dict[str, str | None], context: Context) -> list[str]:
    read = f"the first {ROWS_READ:,} of {source.rows:,}" if source.rows > ROWS_READ else f"{source.rows:,}"
    positives = f"{context.label.sum():,.0f} rows, {100 * context.label.mean():.3f} %"
    lines = [
        f"# Drafted from {quoted(source.path.name)} ({read} rows). Look it over: what does a caller know,",
        "# what does the online store hold, and which columns exist only after the outcome?",
        f"name = {quoted(name)}",
        f"label = {quoted(roles['label'] or '')}  # 1 in {positives}",
    ]
    lines += [f"key = {quoted(roles['key'])}"] if roles["key"] else []
    lines += [f"event_time = {quoted(roles['time'])}"] if roles["time"] else []
    return lines


def _entity_lines(source: ParquetSource, entity: str | None) -> list[str]:
    if entity is None:
        return []
    kind = "integer" if pa.types.is_integer(source.schema.field(entity).type) else "string"
    return ["", "[entity]", f"column = {quoted(entity)}", f'type = "{kind}"']


def _feature_head() -> list[str]:
    return [
        "",
        '# source: "request" = sent by the caller, "online" = read from the online store,',
        "# \"either\" = the caller's, else the store's.",
        "[features]",
    ]


def _tail(context: Context) -> list[str]:
    metric = "pr_auc" if context.label.mean() < 0.1 else "auc"
    strategy = "random" if context.times is None else "time"
    return ["", "[split]", f'strategy = "{strategy}"', "", "[search]", f'metric = "{metric}"', ""]


def _name(path: Path) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_")[:60]
    return name if name[:1].isalpha() else f"t_{name}".rstrip("_")


def _toml_key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else quoted(name)
