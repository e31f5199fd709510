"""The drafted target: which kind a label column is of, as its values show it, and the lines of the draft that say so.

No table tells for sure whether five whole numbers are classes, a count or an amount: what is taken for what is written
beside it, and `--kind` overrules it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import DataError
from data.schema.features.feature import Scalar
from data.schema.task import MOST_CLASSES, MOST_GRADE, Binary, Multiclass, Ranking, Regression
from data.sources.draft.column_profile import NUMBER, Column
from data.sources.toml_text import toml_value
from data.sources.type_advice import label_remedy, label_type_remedy, number_remedy, ordered_pair, shown
from data.transform.encoding import FLOAT32_MAX
from data.transform.labels import label_codes

KINDS = ("binary", "multiclass", "regression", "ranking")
_FEW = 20
"""Most different whole numbers that are taken for classes."""
_ROWS_A_CLASS = 20
"""Rows of each of them without which they are taken for amounts."""
_RARE = 30
"""Rows of a class below which the draft says that they are few."""
_ROWS_A_WORD = 5
"""Rows for each different word without which words are no classes but text."""
_OFTEN_ZERO = 0.3
_SKEWED = 1.5
"""Mean of the amounts above 0, as a multiple of their median, from which on they are skewed."""
_SHOWN = 6


@dataclass(frozen=True)
class DraftedTarget:
    """What a label column is to a draft."""

    label: np.ndarray
    """float64 of shape (n,): 0 or 1, of more classes their positions from 0, or the numbers."""
    classes: int | None
    """Number of classes; None for numbers."""
    remark: str
    """What there is to know of the labels."""
    task: str | None
    """The line that declares the kind; None for labels 0 and 1."""
    metric: str
    gates: str | None
    """What more could be asked of a model; None for two labels."""


class Lists(NamedTuple):
    """What a draft of a ranking is told, as no table shows it."""

    group: str
    """Column whose equal values are one list."""
    item: str | None = None
    """Column that says which item a row is of."""


def draft_target(column: Column, kind: str | None = None, lists: Lists | None = None) -> DraftedTarget:
    """Return what a label column is to a draft.

    Args:
        column: the label.
        kind: one of `KINDS`, by default the one that the values show.
        lists: of a ranking, and of no other kind.

    Raises:
        DataError: the column holds no labels, some are missing, all are the same, or they are not of the kind; or
            `lists` does not fit the kind.
    """
    if (kind == "ranking") != (lists is not None):
        raise DataError("a ranking has lists: give --kind ranking and --group COLUMN, or neither of them")
    if pa.types.is_floating(column.kind):
        # Minus zero is another value to Arrow, and no other label.
        column = Column(column.name, pc.call_function("add", [column.values, pa.scalar(0, column.kind)]))
    _check(column)
    drafts = {"binary": _binary, "multiclass": _multiclass, "regression": _regression}
    return _ranking(column, lists) if lists is not None else drafts[kind or _kind(column)](column)


def _check(column: Column) -> None:
    expected = f"label '{column.name}' must hold labels or numbers"
    if not len(column.present):
        raise DataError(f"{expected}; it is missing in every row: name another")
    if not (column.number or column.text or pa.types.is_boolean(column.kind)):
        raise DataError(f"{expected}; it holds {column.kind}: {label_type_remedy(column.kind)}")
    if column.missing:
        raise DataError(f"label '{column.name}' is missing in {column.missing:,} rows: drop those rows")
    if column.distinct < 2:
        found = shown(_values(column))
        raise DataError(f"label '{column.name}' has one class only ({found}): there is nothing to learn")


def _kind(column: Column) -> str:
    if column.distinct == 2:
        return "binary"
    if column.text:
        _check_words(column)
        return "multiclass"
    few = column.whole and column.distinct <= _FEW
    return "multiclass" if few and _counts(column).min() >= _ROWS_A_CLASS else "regression"


def _check_words(column: Column) -> None:
    """Refuse text that is no set of classes: numbers, numbers among words, times, and too many words."""
    words = column.present.unique()
    numbers = pc.call_function("match_substring_regex", [words], pc.MatchSubstringOptions(NUMBER))
    found = int(pc.call_function("sum", [numbers]).as_py())
    name, classes = column.name, "if they are classes all the same: --kind multiclass"
    if 0 < found < len(words):
        others = words.filter(pc.call_function("invert", [numbers])).slice(0, _SHOWN).to_pylist()
        raise DataError(
            f"label '{name}' holds numbers and words ({shown(others)}) alike: correct the words and convert the column "
            f"to numbers; {classes}"
        )
    if found and len(words) > _FEW:
        raise DataError(
            f"label '{name}' holds {len(words):,} different numbers written as text: convert the column to numbers; "
            + classes
        )
    if column.time:
        raise DataError(f"label '{name}' holds times: {label_type_remedy(pa.timestamp('us'))}")
    if len(words) > MOST_CLASSES or len(words) * _ROWS_A_WORD > len(column.values):
        raise DataError(
            f"label '{name}' holds {len(words):,} different words in {len(column.values):,} rows: too many for classes "
            f"(at most {MOST_CLASSES}, with some rows each); join those that belong together, or name another label"
        )


def _binary(column: Column) -> DraftedTarget:
    values = _values(column)
    if len(values) != 2:
        raise DataError(
            f"label '{column.name}' holds {column.distinct:,} different values ({shown(values)}), and a binary one has "
            f"two: {label_remedy(values)}"
        )
    if not column.text and set(values) == {0, 1}:
        return _two(column.floats, "1", None)
    negative, positive = _ordered(column, values)
    label = label_codes(column.values, [negative, positive], column.name).astype(np.float64)
    task = f"task = {{ positive = {toml_value(positive)}, negative = {toml_value(negative)} }}"
    return _two(label, toml_value(positive), f"{task}  # if {toml_value(negative)} is to be predicted: swap the two")


def _two(label: np.ndarray, positive: str, task: str | None) -> DraftedTarget:
    metric = Binary().metric.value if label.mean() < 0.1 else "auc"
    return DraftedTarget(
        label, 2, f"{positive} in {label.sum():,.0f} rows, {100 * label.mean():.3f} %", task, metric, None
    )


def _ordered(column: Column, values: Sequence[Scalar]) -> tuple[Scalar, Scalar]:
    """Return the negative and the positive label: by what they say, else the rarer one is the positive."""
    negative, positive, sure = ordered_pair(values)
    if sure or 0 in values:
        return negative, positive
    rows = {value: int(count) for value, count in zip(values, _counts(column), strict=True)}
    return (positive, negative) if rows[negative] < rows[positive] else (negative, positive)


def _multiclass(column: Column) -> DraftedTarget:
    values = _values(column)
    if not 3 <= column.distinct <= MOST_CLASSES:
        raise DataError(
            f"label '{column.name}' holds {column.distinct:,} different values ({shown(values)}), and one of several "
            f"classes has 3 to {MOST_CLASSES}"
        )
    counts = _counts(column)
    shares = [
        f"{toml_value(values[at])} in {100 * counts[at] / counts.sum():.1f} %"
        for at in np.argsort(-counts, kind="stable")
    ]
    rare = [f"{count} of {toml_value(value)}" for value, count in zip(values, counts, strict=True) if count < _RARE]
    notes = ["in the order of the answers"]
    notes += [f"few rows: {', '.join(rare[:_SHOWN])}; join classes that are rare"] if rare else []
    notes += [] if column.text else ['if they are amounts or counts: task = { kind = "regression" }']
    classes = ", ".join(map(toml_value, values))
    return DraftedTarget(
        label_codes(column.values, values, column.name).astype(np.float64),
        len(values),
        ", ".join(shares[:_SHOWN]) + (", ..." if len(shares) > _SHOWN else ""),
        f'task = {{ kind = "multiclass", classes = [{classes}] }}  # {"; ".join(notes)}',
        Multiclass(kind="multiclass", classes=("a", "b", "c")).metric.value,
        f"min_accuracy (the most frequent class alone has {counts.max() / counts.sum():.3f}), min_macro_f1, max_ece",
    )


def _regression(column: Column) -> DraftedTarget:
    if column.text:
        raise DataError(f"label '{column.name}' holds {column.kind}: {number_remedy(column.kind)}")
    values = column.floats
    wrong = int((np.abs(values) > FLOAT32_MAX).sum())
    if wrong:
        raise DataError(f"label '{column.name}' is not a finite number in {wrong:,} rows: drop those rows")
    task, note = _objective(column, values)
    declared = f'task = {{ kind = "regression"{", objective = " + toml_value(task.objective.value) if note else ""} }}'
    middle = float(np.median(values))
    beside = [note] if note else ['errors weigh by their square; of outliers less: objective = "absolute"']
    if not note and column.whole and values.min() >= 0:
        beside.append('if they are counts: objective = "poisson"')
    return DraftedTarget(
        values,
        None,
        f"{values.min():.6g} to {values.max():.6g}, median {middle:.6g}, mean {values.mean():.6g}",
        f"{declared}  # {'; '.join(beside)}",
        task.metric.value,
        f"min_r2, max_rmse (the mean alone has {values.std():.4g}), "
        f"max_mae (the median alone has {np.abs(values - middle).mean():.4g})",
    )


def _ranking(column: Column, lists: Lists) -> DraftedTarget:
    wrong = _values(column) if column.text else _no_grades(column.floats)
    if wrong:
        raise DataError(
            f"label '{column.name}' holds {shown(wrong)}; a ranking has grades, whole numbers from 0 (not relevant) to "
            f"{MOST_GRADE}: number the grades in the order of their worth"
        )
    grades, rows = np.unique(column.floats, return_counts=True)
    shares = [f"{grade:.0f} in {100 * count / rows.sum():.1f} %" for grade, count in zip(grades, rows, strict=True)]
    task = Ranking(kind="ranking", group=lists.group, item=lists.item)
    item = "" if lists.item is None else f", item = {toml_value(lists.item)}"
    return DraftedTarget(
        column.floats,
        None,
        ", ".join(shares[:_SHOWN]) + (", ..." if len(shares) > _SHOWN else ""),
        f'task = {{ kind = "ranking", group = {toml_value(lists.group)}{item}, at = {task.at} }}  # at: how many items '
        "from the top count",
        task.metric.value,
        "min_ndcg, min_map, min_mrr",
    )


def _no_grades(values: np.ndarray) -> list[float]:
    """Return the first different numbers that are no grades."""
    wrong = (values < 0) | (values > MOST_GRADE) | (values != np.floor(values))
    return np.unique(values[wrong])[:_SHOWN].tolist()


def _objective(column: Column, values: np.ndarray) -> tuple[Regression, str]:
    """Return the task, and why its objective is not the default one."""
    zeros, above = values == 0, values[values > 0]
    amounts = len(above) and not column.whole and values.min() >= 0 and column.distinct > _FEW
    if amounts and zeros.mean() >= _OFTEN_ZERO and above.mean() >= _SKEWED * np.median(above):
        note = f'{100 * zeros.mean():.1f} % are 0, the others skewed amounts; else: objective = "squared"'
        return Regression.model_validate({"kind": "regression", "objective": "tweedie"}), note
    return Regression(kind="regression"), ""


def _values(column: Column) -> list[Scalar]:
    """Return the first different values in order, as many as could be classes and one more; whole ones as integers."""
    values = column.present.unique().sort().slice(0, MOST_CLASSES + 1).to_pylist()
    if column.text or pa.types.is_boolean(column.kind):
        return values
    return [int(value) if float(value).is_integer() else float(value) for value in values]


def _counts(column: Column) -> np.ndarray:
    """Return the rows of each different value in order, of a column without missing ones."""
    counts = column.present.value_counts()
    order = pc.call_function("array_sort_indices", [counts.field(0)])
    return counts.field(1).take(order).to_numpy(zero_copy_only=False)
