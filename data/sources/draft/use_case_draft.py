"""Drafts of use-case files: the likely role of each column of a table, and why some are left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.schema.use_case import parse_use_case
from data.sources.atomic_output import atomic_file
from data.sources.draft.column_profile import GIVEN_AWAY, ID_NAME, RULES, TIME_RULES, Column, Context
from data.sources.draft.drafted_feature import DraftedFeature, draft_feature
from data.sources.draft.drafted_target import DraftedTarget, Lists, draft_target
from data.sources.draft.drafted_times import TimeDrafts
from data.sources.draft.label_leakage import Suspect, given_away
from data.sources.filesystems import base_name, named
from data.sources.parquet import ParquetSource, open_source, read_table
from data.sources.toml_text import quoted
from data.sources.type_advice import event_time_remedy, key_remedy
from data.transform.entity_key import holds_keys, key_types
from data.transform.event_time import event_us, fits_event_time
from data.transform.missing import blank_as_null

ROWS_READ = 2_000_000
"""Number of rows, from the start of the table, that a draft is made from."""


def draft(
    path: Path,
    label: str,
    entity: str | None = None,
    time: str | None = None,
    key: str | None = None,
    name: str | None = None,
    kind: str | None = None,
    group: str | None = None,
    item: str | None = None,
) -> str:
    """Return the text of a use-case file for a table, checked by the parser that will read it.

    Args:
        path: Parquet file or folder.
        label: column to predict.
        entity: column of the entity, if there is one.
        time: column of the event time, if there is one.
        key: column that identifies a row; by default the first that looks like it.
        name: name of the use case; by default made of the path.
        kind: kind of target, one of `data.sources.draft.drafted_target.KINDS`; by default the one that the label shows.
        group: of a ranking, column whose equal values are one list.
        item: of a ranking, column that says which item a row is of; it may be a feature too.

    Raises:
        DataError: a named column is missing or cannot have its role, the label is not of the kind or always the same,
            or no feature is left.
    """
    source = open_source(path)
    roles = {"label": label, "entity": entity, "time": time, "key": key, "group": group}
    _check_roles(source, roles)
    if item is not None:
        if group is None:
            raise DataError("an item is one of a list: give --group COLUMN, which says which rows are one")
        source.require([item])
    entities = _read(source, entity) if entity else None
    with _naming(source):
        target = draft_target(_read(source, label), kind, Lists(group, item) if group else None)
        context = Context(
            target.label,
            event_us(_read(source, time).values, time) if time else None,
            _entities(entities) if entities else None,
            _pandas_indexes(source.schema),
            target.classes,
        )
    columns = (_read(source, name) for name in source.schema.names if name not in roles.values())
    found = _judge(columns, context, TimeDrafts(time, frozenset(source.schema.names)), online=bool(entity and time))
    if not found.kept:
        left_out = "\n".join(found.left_out).replace("# ", "")
        raise DataError(f"{named(path)}: no column is fit to be a feature:\n{left_out}")
    lines = [*(feature.with_copies(found.suspects) for feature in found.kept), *found.left_out]
    roles["key"] = key or found.key
    head = [*_head(source, name or _name(path), roles, target), *_schedule(found.kept)]
    tail = _tail(target, by_time=time is not None)
    text = "\n".join([*head, *_entity_lines(entities), *_feature_head(), *lines, *tail])
    parse_use_case(text, f"draft for {named(path)}")
    return text


def write(text: str, out: Path) -> None:
    """Write the text of a draft as a whole; raises DataError when the file cannot be written."""
    with atomic_file(out) as partial:
        partial.write_text(text, "utf-8")


@dataclass
class _Judged:
    """What became of the columns."""

    kept: list[DraftedFeature] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    suspects: list[Suspect] = field(default_factory=list)
    key: str | None = None
    """The first column that could be the key of the rows."""


def _judge(columns: Iterable[Column], context: Context, times: TimeDrafts, online: bool) -> _Judged:
    """Keep or leave out each column; they come and go one at a time, since a table may be larger than memory."""
    judged = _Judged()
    for column in columns:
        rules = TIME_RULES if column.time else RULES
        reason = next((reason for rule in rules if (reason := rule(column, context))), None)
        if reason is None:
            drafted = times.draft(column, context) if column.time else [draft_feature(column, context, online)]
            judged.kept += drafted
            judged.suspects += [feature.suspect for feature in drafted if feature.suspect]
            if drafted:
                continue
            reason = "a time from which nothing that varies can be derived"
        judged.left_out.append(f"# left out: {quoted(column.name)}: {reason}")
        judged.suspects += [given_away(column, context)] if reason == GIVEN_AWAY else []
        judged.key = judged.key or _as_key(column)
    return judged


def _check_roles(source: ParquetSource, roles: dict[str, str | None]) -> None:
    given = [name for name in roles.values() if name]
    source.require(given)
    twice = [name for name in given if given.count(name) > 1]
    if twice:
        raise DataError(f"{named(source.path)}: column '{twice[0]}' is named for two purposes")
    if (time := roles["time"]) is not None:
        kind = source.schema.field(time).type
        expected = "timestamps, dates, ISO strings or whole numbers"
        source.require_type(time, fits_event_time(kind), expected, event_time_remedy(kind))
    if (key := roles["key"]) is not None:
        kind = source.schema.field(key).type
        source.require_type(key, holds_keys(kind, "string"), f"{key_types('string')} (it is the key)", key_remedy(kind))


def _read(source: ParquetSource, name: str) -> Column:
    values = read_table(source.path, [name], ROWS_READ).column(0)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return Column(name, values)


@contextmanager
def _naming(source: ParquetSource) -> Iterator[None]:
    """Name the table in a DataError that names a column only."""
    try:
        yield
    except DataError as exc:
        raise DataError(f"{named(source.path)}: {exc}") from exc


def _entities(column: Column) -> np.ndarray:
    """Return entities as integer codes from 0; blank ones have a code of their own."""
    key_type = _key_type(column)
    if not holds_keys(column.kind, key_type):
        expected = f"{key_types(key_type)} (it is the entity)"
        raise DataError(f"column '{column.name}' holds {column.kind}, expected {expected}; {key_remedy(column.kind)}")
    keys = blank_as_null(column.values)
    if keys.null_count == len(keys):
        raise DataError(f"column '{column.name}' is blank in every row: name another column as the entity")
    codes = keys.combine_chunks().dictionary_encode(null_encoding="encode").indices
    return codes.to_numpy(zero_copy_only=False).astype(np.int64)


def _pandas_indexes(schema: pa.Schema) -> frozenset[str]:
    """Return the columns that a file's metadata names as the index of the pandas frame that it was written from."""
    try:
        columns = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
    except (ValueError, AttributeError):
        return frozenset()
    # An index that is a plain count is not a column but a description of its range.
    return frozenset(name for name in columns if isinstance(name, str))


def _as_key(column: Column) -> str | None:
    """Return the column's name when it could be the key of the rows: unique, never missing, named like one."""
    unique = (column.text or column.integer) and not column.missing and column.distinct == len(column.values)
    return column.name if unique and ID_NAME.search(column.name) else None


def _head(source: ParquetSource, name: str, roles: dict[str, str | None], target: DraftedTarget) -> list[str]:
    read = f"the first {ROWS_READ:,} of {source.rows:,}" if source.rows > ROWS_READ else f"{source.rows:,}"
    lines = [
        f"# Drafted from {quoted(base_name(source.path))} ({read} rows). Look it over: what does a caller know,",
        "# what does the online store hold, and which columns exist only after the outcome?",
        f"name = {quoted(name)}",
        f"label = {quoted(roles['label'] or '')}  # {target.remark}",
    ]
    lines += [target.task] if target.task else []
    lines += [f"key = {quoted(roles['key'])}"] if roles["key"] else []
    lines += [f"event_time = {quoted(roles['time'])}"] if roles["time"] else []
    return lines


def _schedule(features: Sequence[DraftedFeature]) -> list[str]:
    """Return when rows are stored, which a use case with features of the online store says."""
    if not any(feature.stored for feature in features):
        return []
    return ['materialized = { every = "1d", takes = "2h" }  # when are rows stored, and how long does it take?']


def _key_type(column: Column) -> str:
    """Return the type of an entity with the keys of a column: whole numbers of any type are integers."""
    return "integer" if column.number and column.whole else "string"


def _entity_lines(column: Column | None) -> list[str]:
    if column is None:
        return []
    return ["", "[entity]", f"column = {quoted(column.name)}", f'type = "{_key_type(column)}"']


def _feature_head() -> list[str]:
    return [
        "",
        '# source: "request" = sent by the caller, "online" = read from the online store,',
        "# \"either\" = the caller's, else the store's.",
        "[features]",
    ]


_GATES = [
    "[gates]",
    "beats_chance = true           # a model of shuffled labels is refused",
    "max_loss_to_baselines = 0.0   # not worse than logistic regression and XGBoost with its defaults",
]


def _tail(target: DraftedTarget, by_time: bool) -> list[str]:
    strategy = "time" if by_time else "random"
    gates = [*_GATES, *([f"# also: {target.gates}"] if target.gates else []), ""]
    return ["", "[split]", f'strategy = "{strategy}"', "", "[search]", f'metric = "{target.metric}"', "", *gates]


def _name(path: Path) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", Path(base_name(path)).stem.lower()).strip("_")[:60]
    return name if name[:1].isalpha() else f"t_{name}".rstrip("_")
