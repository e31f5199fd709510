"""Refused rows: those of a table that HTTP would answer with 422, by column and reason, and words never seen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from data.transform.encoding import Transform, as_strings
from data.transform.event_time import NO_TIME, event_us
from data.validation.event_checks import event_value_checks
from data.validation.row_checks import Check, entity_checks, value_checks
from tune.registry.bundle import BundleManifest

REASONS = "reasons"
"""Column of the refused rows that says what is wrong with each; a carried column of the name keeps it."""
_SHOWN = 5


@dataclass
class BlockCounts:
    """What became of some rows: how many there were, and were refused, by column and reason; and unseen words."""

    rows: int = 0
    refused_rows: int = 0
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows by column and reason; a row may have several."""
    unseen: Counter[str] = field(default_factory=Counter)
    """Scored rows by column, for categories whose word the model was not trained on."""
    unseen_words: dict[str, list[str]] = field(default_factory=dict)
    """Some of these words, by column."""

    def add(self, other: BlockCounts) -> None:
        """Add the counts of other rows."""
        self.rows += other.rows
        self.refused_rows += other.refused_rows
        self.refused += other.refused
        self.unseen += other.unseen
        for column, words in other.unseen_words.items():
            known = self.unseen_words.setdefault(column, [])
            self.unseen_words[column] = list(dict.fromkeys([*known, *words]))[:_SHOWN]

    def to_json(self) -> bytes:
        """Return the counts as JSON."""
        refused = [[*key, count] for key, count in self.refused.items()]
        return json.dumps([self.rows, self.refused_rows, refused, self.unseen, self.unseen_words]).encode()

    @classmethod
    def from_json(cls, text: bytes) -> BlockCounts:
        """Return the counts that `to_json` wrote."""
        rows, refused_rows, refused, unseen, words = json.loads(text)
        by_reason = Counter({(column, reason): count for column, reason, count in refused})
        return cls(rows, refused_rows, by_reason, Counter(unseen), words)

    def refused_lines(self) -> list[str]:
        """Return a line for every column and reason, the most frequent first."""
        return [f"{column}: {reason}: {count:,} rows" for (column, reason), count in self.refused.most_common()]

    def unseen_lines(self) -> list[str]:
        """Return a line for every category with words that the model was not trained on."""
        return [
            f"{column}: {count:,} rows with a word that the model was not trained on, such as "
            + ", ".join(map(repr, self.unseen_words[column]))
            for column, count in self.unseen.most_common()
        ]


@dataclass(frozen=True)
class Refusals:
    """The refused among n rows: `refused`, bool of shape (n,), and the checks that they failed."""

    refused: np.ndarray
    checks: Sequence[Check]
    counts: BlockCounts

    @property
    def clean(self) -> bool:
        """Whether no row is refused."""
        return not self.counts.refused_rows

    def reasons(self) -> list[str]:
        """Return what is wrong with each refused row, in order."""
        texts: dict[int, list[str]] = {int(row): [] for row in np.flatnonzero(self.refused)}
        for check in self.checks:
            for row in np.flatnonzero(check.mask).tolist():
                texts[row].append(f"{check.column}: {check.reason}")
        return ["; ".join(each) for each in texts.values()]


def refusals(table: pa.Table, manifest: BundleManifest, transform: Transform) -> Refusals:
    """Find the rows that HTTP would refuse, and count the words that no vocabulary has.

    Args:
        table: n rows; a feature without a column is one that every request leaves out.
        manifest: of the model.
        transform: of the manifest's schema.

    Raises:
        DataError: a column is of a type that cannot hold its feature.
    """
    found = {(check.column, check.reason): check for check in _checks(table, manifest) if check.mask.any()}
    # A column that is an entity twice, or an entity and a feature, is checked alike for both.
    checks = list(found.values())
    refused = np.zeros(table.num_rows, bool)
    for check in checks:
        refused |= check.mask
    by_reason = Counter({(check.column, check.reason): int(check.mask.sum()) for check in checks})
    counts = BlockCounts(table.num_rows, int(refused.sum()), by_reason)
    _count_unseen(counts, table.filter(pa.array(~refused)) if counts.refused_rows else table, transform)
    return Refusals(refused, checks, counts)


def _checks(table: pa.Table, manifest: BundleManifest) -> Iterable[Check]:
    present = set(table.column_names)
    features = [feature for feature in manifest.schema_.features if present.issuperset(feature.inputs)]
    yield from value_checks(table, features)
    if manifest.entity and manifest.entity.column in table.column_names:
        yield from entity_checks(table.column(manifest.entity.column), manifest.entity)
    for source in manifest.events.values():
        yield from event_value_checks(table, source)
    time = manifest.event_time
    if manifest.schema_.windows and time is not None and time in table.column_names:
        timeless = event_us(table.column(time), time) == NO_TIME
        yield Check(time, "missing: the windows of a row end at its time", timeless)


def _count_unseen(counts: BlockCounts, table: pa.Table, transform: Transform) -> None:
    for encoder in transform.encoders:
        name = encoder.feature.name
        if encoder.feature.vocabulary is None or name not in table.column_names:
            continue
        words = as_strings(table.column(name), name).drop_null().value_counts().to_pylist()
        unseen = {each["values"]: each["counts"] for each in words if encoder.unseen(each["values"])}
        if unseen:
            counts.unseen[name] = sum(unseen.values())
            counts.unseen_words[name] = sorted(unseen, key=lambda word: (-unseen[word], word))[:_SHOWN]
