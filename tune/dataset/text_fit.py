"""Text fits: the linear models of text features, and the scores of development rows by fits that did not learn of them.

A model scores a text that it has learned from as if it knew the label: trees that saw such scores would trust them more
than any other. So each development row is scored by a fit of other rows: a row that a fold of the search judges by a
fit of what that fold learns from, and the rest, the oldest rows of a search by time, by fits among themselves. All
other rows, of the holdout and of requests, are scored by the fit of all development rows, which is to texts what a
fitted vocabulary is to categories: the measured model and the one that serves read texts alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from data.cli.terminal import note
from data.errors import DataError
from data.schema.task import Task
from data.schema.use_case import UseCase
from data.transform.table_columns import free_name, named_column
from data.transform.text_model import TextModel, gram_scale
from data.transform.text_scores import score_texts, text_column
from data.transform.text_tokens import gram_keys, tokens
from tune.dataset.folds import NOT_JUDGED, Folds

MOST_GRAMS = 1 << 16
MOST_BYTES = 1 << 20
"""Size of a model's weights and keys: that of the most common n-grams that fit."""
LEAST_ROWS = 2
"""An n-gram of fewer rows is not learned: alone with its label it would be learned by heart."""
_CROSS_FITS = 5
_STEPS = 100
_TOLERANCE = 1e-3
_INVERSE_PENALTY = 5.0
_RIDGE_PENALTY = 1.0


class FittedText(NamedTuple):
    """A text feature of n development rows."""

    names: tuple[str, ...]
    """Of the model's scores."""
    model: TextModel
    """The fit of all rows."""
    out_of_fold: np.ndarray
    """The scores of the rows by fits of others, float32 of shape (n, scores)."""


class TextRows(NamedTuple):
    """The texts of n rows, with what linear models learn of them."""

    texts: pa.ChunkedArray
    keys: np.ndarray
    """The different keys of all n-grams, ascending, uint32 of shape (keys,)."""
    grams: sparse.csr_matrix
    """Which row has which of them: 1 or nothing, float32 of shape (n, keys)."""
    labels: np.ndarray
    present: np.ndarray
    """Whether a row has a text at all, bool of shape (n,)."""


def fit_texts(
    table: pa.Table, labels: np.ndarray, use_case: UseCase, folds: Folds, apart: np.ndarray
) -> dict[str, FittedText]:
    """Fit the text features of a use case.

    Args:
        table: the n development rows.
        labels: their labels.
        use_case: what is declared.
        folds: the folds of the search over these rows.
        apart: of each row the number of its set, integers of shape (n,): rows that no fold judges are scored by fits of
            the other sets.

    Raises:
        DataError: a column holds no texts, or none at all.
    """
    found = {}
    for name in use_case.texts:
        rows = _read(text_column(named_column(table, name), name), labels)
        if not rows.present.any():
            raise DataError(f"column '{name}': no text in any training row; leave the feature out of the use case")
        note(f"text '{name}': {len(rows.keys):,} words and pairs of words")
        model = _fit(rows, np.arange(len(labels)), use_case.task)
        out_of_fold = np.full((len(labels), model.width), np.nan, np.float32)
        for learned, scored in _cross_fits(folds, apart):
            fitted = _fit(rows, learned, use_case.task)
            out_of_fold[scored] = score_texts(rows.texts.take(pa.array(scored)), model.width, fitted.scores)
        found[name] = FittedText(_names(use_case.task), model, out_of_fold)
    return found


def out_of_fold_columns(fitted: Mapping[str, FittedText]) -> dict[str, np.ndarray]:
    """Return the scores of the development rows by the names of their features, float32 of shape (n,)."""
    return {
        f"{text}[{name}]": each.out_of_fold[:, at]
        for text, each in fitted.items()
        for at, name in enumerate(each.names)
    }


def _names(task: Task) -> tuple[str, ...]:
    """The names of a model's scores: of the margins, of several classes each, of their positive parts, and of words."""
    labels = task.labels or ()
    names = [str(label) for label in labels] if len(labels) > 2 else ["score"]
    for name in [*(f"for {name}" for name in names), "words"]:
        names.append(free_name(name, names))
    return tuple(names)


def _read(texts: pa.ChunkedArray, labels: np.ndarray) -> TextRows:
    present = texts.is_valid().to_numpy(zero_copy_only=False)
    found = [gram_keys(tokens(text.as_py() or "")) for chunk in texts.chunks for text in chunk]
    ends = np.concatenate([[0], np.cumsum([len(each) for each in found], dtype=np.int64)])
    held = np.concatenate([np.empty(0, np.uint32), *found])
    keys, codes = np.unique(held, return_inverse=True)
    grams = sparse.csr_matrix((np.ones(len(codes), np.float32), codes, ends), shape=(len(found), len(keys)))
    return TextRows(texts, keys, grams, labels, present)


def _cross_fits(folds: Folds, apart: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield numbers of rows that a fit learns from, and of those that it scores; each row is scored once."""
    yield from folds.each()
    rest = folds.of == NOT_JUDGED
    for part in np.unique(apart[rest]):
        yield np.flatnonzero(rest & (apart != part)), np.flatnonzero(rest & (apart == part))


def _fit(rows: TextRows, learned: np.ndarray, task: Task) -> TextModel:
    learned = learned[rows.present[learned]]
    labels, grams = rows.labels[learned], rows.grams[learned]
    width = len(task.labels) if task.labels is not None and len(task.labels) > 2 else 1
    common = _common(np.bincount(grams.indices, minlength=len(rows.keys)), 4 + 4 * width)
    if not len(common) or len(np.unique(labels)) < 2:
        return TextModel(np.empty(0, np.uint32), np.empty((0, width)), np.zeros(width))
    known = grams[:, common]
    scale = np.array([gram_scale(count) for count in np.diff(known.indptr).tolist()], np.float32)
    scaled = sparse.diags(scale).dot(known).tocsr()
    if task.labels is None:
        ridge = Ridge(_RIDGE_PENALTY, solver="sparse_cg", max_iter=_STEPS, tol=_TOLERANCE).fit(scaled, labels)
        return TextModel(rows.keys[common], ridge.coef_.reshape(-1, 1), np.array([ridge.intercept_]))
    logistic = LogisticRegression(C=_INVERSE_PENALTY, max_iter=_STEPS, tol=_TOLERANCE)
    with warnings.catch_warnings():
        # Trees come after it: a fit that stops a little short of the optimum tells them the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        logistic.fit(scaled, labels)
    weights, constants = _by_class(logistic, width)
    return TextModel(rows.keys[common], weights, constants)


def _common(counts: np.ndarray, bytes_each: int) -> np.ndarray:
    """Return the numbers of the n-grams that most rows have, ascending: as many as fit, of `LEAST_ROWS` at least."""
    found = np.flatnonzero(counts >= LEAST_ROWS)
    most = min(MOST_GRAMS, MOST_BYTES // bytes_each)
    return found if len(found) <= most else np.sort(found[np.argsort(-counts[found], kind="stable")[:most]])


def _by_class(logistic: LogisticRegression, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weights of shape (m, width) and constants of shape (width,); 0 of a class that no row had."""
    coefficients, intercepts = logistic.coef_, np.atleast_1d(logistic.intercept_)
    if width == 1:
        return coefficients.T, intercepts
    if len(coefficients) == 1:
        # Of two classes scikit-learn has the second against the first.
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weights, constants = np.zeros((coefficients.shape[1], width)), np.zeros(width)
    classes = np.asarray(logistic.classes_, np.int64)
    weights[:, classes], constants[classes] = coefficients.T, intercepts
    return weights, constants
