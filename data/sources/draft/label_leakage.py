"""Label leakage in an unknown table: columns that rank the label alone, and columns that are computed from such a one.

Both may be honest; only who knows the table can tell whether they are known before the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data.sources.draft.column_profile import Column, Context
from data.sources.toml_text import quoted
from data.transform.hashing import splitmix64

_TELLTALE_AUC = 0.95
_TELLTALE_QUARTILES = 0.99
"""The same of a label that is a number: a distance may honestly rank a price or a duration nearly alone."""
_FEW_VALUES = 50
_ROWS_A_HALF = 5
"""Rows of either label that each half must have for words to be judged; of known values two such halves."""

_ROWS_COMPARED = 100_000
_MOST_LEVELS = 200
_ROWS_A_LEVEL = 20
_EXPLAINED = 0.95
"""Share of the rows outside a copy's most frequent value that the original must tell right."""
_CONCORDANT = 0.99
"""Share of the pairs of different values that a copy must order as the original does, or the other way round."""


@dataclass(frozen=True)
class Suspect:
    """A column with what is needed to recognize its copies."""

    name: str
    levels: np.ndarray
    """Of each compared row the level of its value, uint8; levels of a leak are in the order of its values."""
    reason: str
    """What it does, to follow "which"."""

    @property
    def mark(self) -> str:
        """What to write beside the column."""
        return f"CAREFUL: {self.reason}: is it known beforehand?"


def telltale(column: Column, context: Context) -> Suspect | None:
    """Return the column as a suspect if it ranks the label nearly alone, else None."""
    reason = _ranking(column, context)
    return None if reason is None else Suspect(column.name, levels(column, context), reason)


def _ranking(column: Column, context: Context) -> str | None:
    """Return how well a column ranks the label alone, where that is nearly perfect."""
    if context.classes is None:
        found, least, ranks = single_auc(column, context), _TELLTALE_QUARTILES, "ranks the label at its quartiles"
    elif context.classes == 2:
        found, least, ranks = single_auc(column, context), _TELLTALE_AUC, "ranks the label"
    else:
        found, least, ranks = class_auc(column, context), _TELLTALE_AUC, "tells each class from the rest"
    return f"alone it {ranks} with AUC {found:.3f}" if found >= least else None


def given_away(column: Column, context: Context) -> Suspect:
    """Return a column as a suspect whose every value goes with one label only."""
    return Suspect(column.name, levels(column, context), "gives the label away")


def copy_of(name: str, found: np.ndarray, suspects: list[Suspect]) -> Suspect | None:
    """Return a column (its `levels`) as a suspect if it is nearly a function of one of the suspects, else None."""
    for original in suspects:
        if _computed_from(found, original.levels):
            why = original.reason.removeprefix("alone it ")
            return Suspect(name, found, f"nearly a function of {quoted(original.name)}, which {why}")
    return None


def single_auc(column: Column, context: Context) -> float:
    """Return the AUC of one column alone, in the better direction: 0.5 to 1; a missing value counts as one too.

    Of a label that is a number, the mean over its quartiles of the AUC for the rows above.
    """
    return float(np.mean([_best_auc(column, contrast) for contrast in context.contrasts]))


def _best_auc(column: Column, label: np.ndarray) -> float:
    aucs = [] if column.ranked is None else [*_number_aucs(column.ranked, label)]
    if column.text or column.distinct <= _FEW_VALUES:
        aucs.append(_word_auc(column.codes, label))
    return max(max(auc, 1 - auc) for auc in aucs)


def class_auc(column: Column, context: Context) -> float:
    """Return the AUC of one column alone for each of several classes against the rest, their mean by rows: 0 to 1.

    Numbers are ranked by the share of the class in their neighbourhood, since a class may lie between two others.
    """
    codes = column.codes
    if column.ranked is not None and column.distinct > _FEW_VALUES:
        codes = _bins(column.ranked, _most_levels(len(context.label)))
    return sum(float(each.mean()) * _word_auc(codes, each) for each in context.contrasts)


def levels(column: Column, context: Context) -> np.ndarray:
    """Return the level of each compared row's value, uint8: bins of numbers in order, words by their mean label."""
    step = max(len(context.label) // _ROWS_COMPARED, 1)
    label = context.label[::step]
    most = _most_levels(len(label))
    if column.ranked is None:
        return _word_levels(column.codes[::step], label, most)
    return _bins(column.ranked[::step], most)


def _most_levels(rows: int) -> int:
    return max(min(_MOST_LEVELS, rows // _ROWS_A_LEVEL), 3)


def _number_aucs(values: np.ndarray, label: np.ndarray) -> Iterator[float]:
    missing = np.isnan(values)
    if not missing.any():
        yield _auc(values, label)
        return
    # A missing value may go with either label: it is ranked lowest, then highest.
    for extreme in (-np.inf, np.inf):
        yield _auc(np.where(missing, extreme, values), label)
    known = label[~missing]
    if min(known.sum(), (1 - known).sum()) >= _ROWS_A_HALF * 2:
        yield _auc(values[~missing], known)


def _auc(values: np.ndarray, label: np.ndarray) -> float:
    """Return the area under the ROC curve by the Mann-Whitney statistic, ties counted half."""
    _, codes = np.unique(values, return_inverse=True)
    positives, totals = np.bincount(codes, label), np.bincount(codes)
    negatives = totals - positives
    below = np.cumsum(negatives) - negatives
    pairs = positives.sum() * negatives.sum()
    return float((positives * (below + negatives / 2)).sum() / pairs) if pairs else 0.5


def _word_auc(codes: np.ndarray, label: np.ndarray) -> float:
    """Rank half of the rows by the label rate of their word in the rest: by their own rate rare words fit by chance."""
    # By a hash, since labels may come in turn.
    rest = splitmix64(np.arange(len(label), dtype=np.uint64)) % 2 == 0
    known, judged = label[rest], label[~rest]
    if min(known.sum(), judged.sum(), (1 - known).sum(), (1 - judged).sum()) < _ROWS_A_HALF:
        return 0.5
    width = int(codes.max()) + 1
    rate = (np.bincount(codes[rest], known, width) + known.mean()) / (np.bincount(codes[rest], minlength=width) + 1)
    return _auc(rate[codes[~rest]], judged)


def _bins(values: np.ndarray, most: int) -> np.ndarray:
    known = values[~np.isnan(values)]
    different = np.unique(known)
    if len(different) >= most:
        different = np.unique(np.quantile(known, np.linspace(0, 1, most - 1), method="lower"))
    # Level 0 is a missing value.
    found = np.searchsorted(different, values, "right")
    return np.where(np.isnan(values), 0, found).astype(np.uint8)


def _word_levels(codes: np.ndarray, label: np.ndarray, most: int) -> np.ndarray:
    counts = np.bincount(codes)
    rare = np.argsort(-counts, kind="stable")[most - 1 :]
    joined = codes.copy()
    if len(rare):
        joined[np.isin(codes, rare)] = rare[0]
    rate = np.bincount(joined, label) / np.maximum(np.bincount(joined), 1)
    present = np.unique(joined)
    level = np.zeros(len(counts), np.uint8)
    level[present[np.argsort(rate[present], kind="stable")]] = np.arange(len(present))
    return level[joined]


def _computed_from(copy: np.ndarray, original: np.ndarray) -> bool:
    """Return whether the levels of a column nearly follow from those of another, of shape (n,) each."""
    width = int(original.max()) + 1
    table = np.bincount(copy.astype(np.int64) * width + original, minlength=(int(copy.max()) + 1) * width)
    table = table.reshape(-1, width).astype(np.float64)
    rest = len(copy) - table.sum(axis=1).max()
    if rest < _ROWS_A_LEVEL:
        return False
    told = (table.max(axis=0).sum() - table.sum(axis=1).max()) / rest
    return bool(told >= _EXPLAINED or _concordance(table) >= _CONCORDANT)


def _concordance(table: np.ndarray) -> float:
    """Of pairs of rows with different levels of the copy, return the share that the original orders alike.

    Args:
        table: rows of each level of the copy and each of the original, shape (c, o).
    """
    sizes = table.sum(axis=1)
    table, sizes = table[sizes > 0], sizes[sizes > 0]
    # A copy's own order does not matter: its levels are put into the order of the original.
    order = np.argsort(table @ np.arange(table.shape[1]) / sizes, kind="stable")
    table, sizes = table[order], sizes[order]
    lower = np.cumsum(table, axis=0) - table
    ordered = (table * (np.cumsum(lower, axis=1) - lower / 2)).sum()
    pairs = (sizes * (np.cumsum(sizes) - sizes)).sum()
    return float(ordered / pairs)
