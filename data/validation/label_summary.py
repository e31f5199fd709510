"""The labels of a table in figures: rows by class, or the spread of numbers; and why they are nothing to learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.schema.features.feature import Scalar
from data.schema.task import Task, shown_label
from data.transform.encoding import as_floats, as_strings
from data.transform.labels import NO_LABEL, label_array, label_codes, label_faults
from data.transform.missing import missing_mask

_OTHERS_COUNTED = 20
"""Most values a block beside the declared labels: a wrong column may hold any number of them."""
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass
class LabelSummary:
    """The labels of some rows, those left out that are missing."""

    counts: Counter[str] = field(default_factory=Counter)
    """Rows by label as it is shown, values that are no label included."""
    numbers: np.ndarray | None = None
    """Labels that are numbers, those left out that are wrong: float32 of shape (n,). None where there are classes."""

    def merge(self, other: LabelSummary) -> None:
        """Merge the summary of other rows into this one."""
        self.counts += other.counts
        if other.numbers is not None:
            ours = np.empty(0, np.float32) if self.numbers is None else self.numbers
            self.numbers = np.concatenate([ours, other.numbers])

    def problems(self, task: Task, name: str) -> Iterator[str]:
        """Yield why there is nothing to learn from the labels in column `name`, or not all that is declared."""
        if self.numbers is not None:
            if len(self.numbers) and self.numbers.min() == self.numbers.max():
                yield f"label '{name}' has one value only: every row is {self.numbers[0]:g}"
        elif len(self.counts) == 1:
            yield f"label '{name}' has one class only: every row is {next(iter(self.counts))}"
        elif self.counts:
            unseen = [label for label in task.labels or () if not self.counts[_key(label)]]
            if unseen:
                named = ", ".join(map(shown_label, unseen))
                yield f"label '{name}': no row is {named}, which cannot be learned; add rows, or declare other labels"

    @property
    def header(self) -> list[str]:
        """Titles of the cells that `rows` returns."""
        return ["value", "rows", "share"] if self.numbers is None else ["figure", "value"]

    def rows(self) -> list[list[str]]:
        """Return a row of cells for each class, or for each figure of numbers."""
        if self.numbers is not None:
            return [[name, value] for name, value in _figures(self.numbers)]
        total = max(sum(self.counts.values()), 1)
        return [[label, f"{n:,}", f"{100 * n / total:.3f} %"] for label, n in sorted(self.counts.items())]


def label_summary(column: pa.ChunkedArray, task: Task, name: str) -> LabelSummary:
    """Return the summary of n rows; `name` is the column's, for messages.

    Raises:
        DataError: the column's type cannot hold labels.
    """
    present = column.filter(pa.array(~missing_mask(column)))
    if task.labels is None:
        good = ~label_faults(present, task, task.least_label, name, task.most_grade)
        return LabelSummary(numbers=label_array(present.filter(pa.array(good)), task, name))
    codes = label_codes(present, task.labels, name)
    counts = np.bincount(codes[codes != NO_LABEL], minlength=len(task.labels)).tolist()
    found = Counter({_key(label): count for label, count in zip(task.labels, counts, strict=True) if count})
    return LabelSummary(found + _others(present.filter(pa.array(codes == NO_LABEL)), task, name))


def _others(values: pa.ChunkedArray, task: Task, name: str) -> Counter[str]:
    if any(isinstance(label, str) for label in task.labels or ()):
        words = pc.call_function("value_counts", [as_strings(values, name)]).slice(0, _OTHERS_COUNTED)
        return Counter({item["values"].as_py(): item["counts"].as_py() for item in words})
    numbers, counts = np.unique(as_floats(values, name), return_counts=True)
    pairs = list(zip(numbers.tolist(), counts.tolist(), strict=True))[:_OTHERS_COUNTED]
    return Counter({f"{number:g}": count for number, count in pairs})


def _key(label: Scalar) -> str:
    """A label as the report names it: of words without quotes, since a table shows them."""
    if isinstance(label, float):
        return f"{label:g}"
    return label if isinstance(label, str) else shown_label(label)


def _figures(numbers: np.ndarray) -> Iterator[tuple[str, str]]:
    yield "rows", f"{len(numbers):,}"
    if not len(numbers):
        return
    yield "smallest", f"{numbers.min():.7g}"
    for share, value in zip(_QUANTILES, np.quantile(numbers, _QUANTILES).tolist(), strict=True):
        yield f"{share:.0%} of the rows up to", f"{value:.7g}"
    yield "largest", f"{numbers.max():.7g}"
    yield "mean", f"{numbers.mean(dtype=np.float64):.7g}"
