"""The lists of a ranking in figures: those of one item, and those without a relevant one, which teach nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa
from pandas.util import hash_array

from data.schema.use_case import UseCase
from data.transform.encoding import as_floats
from data.transform.missing import blank_mask

# The cast restores the type, which is lost because pandas loads the function lazily.
_hash = cast(Callable[..., np.ndarray], hash_array)


class ListSummary(NamedTuple):
    """The lists of some rows, those left out that are in none. Blocks of a table may have parts of one list each."""

    hashes: np.ndarray
    """64-bit hash of each row's list, shape (n,)."""
    relevant: np.ndarray
    """Whether the row has a grade above 0, bool of shape (n,)."""

    @classmethod
    def joined(cls, parts: Sequence[ListSummary]) -> ListSummary:
        """Return the summary of the rows of all parts; of one at least."""
        return cls(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def notes(self, name: str) -> Iterator[str]:
        """Yield what is worth knowing of the lists in column `name`."""
        _, numbers, sizes = np.unique(self.hashes, return_inverse=True, return_counts=True)
        alone = int((sizes == 1).sum())
        without = int((np.bincount(numbers, self.relevant, len(sizes)) == 0).sum())
        if alone:
            yield f"{name}: {alone:,} of {len(sizes):,} lists have one row only, and teach nothing of the order"
        if without:
            yield f"{name}: {without:,} of {len(sizes):,} lists have no row with a grade above 0, and teach nothing"


def list_summary(table: pa.Table, use_case: UseCase) -> ListSummary | None:
    """Return the lists of some rows; None where the target is no ranking.

    Raises:
        DataError: the label column cannot hold grades.
    """
    name = use_case.task.list_column
    if name is None:
        return None
    column, grades = table.column(name), as_floats(table.column(use_case.label), use_case.label)
    listed = ~blank_mask(column)
    coded = column.combine_chunks().dictionary_encode()
    words = coded.dictionary.cast(pa.string()).to_numpy(zero_copy_only=False)
    codes = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    hashes = _hash(words, categorize=False)[codes[listed]] if listed.any() else np.empty(0, np.uint64)
    return ListSummary(hashes, grades[listed] > 0)
