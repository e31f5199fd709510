"""Model coverage: what a table holds that a registered version of a model was not trained on.

The version is *blind* to a row when one of its values is a word that the version has not learned, or a number smaller
or larger than all that it was trained on. Numbers are compared as the model sees them, in 32-bit floating point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.schema.features.feature import Feature, FeatureType
from data.schema.features.training_profile import FeatureProfile, TrainingProfile
from data.schema.use_case import UseCase
from data.transform.derived_time import derive
from data.transform.encoding import FeatureEncoder, as_strings
from data.validation.hits import Hits, add_hits, hits_of
from data.validation.share import Share

UNKNOWN = "a word that it has not learned"
BELOW = "below all that it was trained on"
ABOVE = "above all that it was trained on"
"""The blind spots. Hits are kept by (feature, blind spot)."""

_WORDS_KEPT = 100
"""Most different unknown words that are kept, of a block and of the table, as examples; all their rows are counted."""


@dataclass(frozen=True)
class TrainedModel:
    """A registered version, as far as a table can be held against it."""

    title: str
    """Name, version and aliases, e.g. `card_fraud version 3 (champion)`."""
    version: str
    features: tuple[Feature, ...]
    """As fitted: categories have their vocabularies."""
    profile: TrainingProfile | None
    """None for a version that was registered before there were profiles: of it only words are known."""

    def comparable(self, use_case: UseCase) -> tuple[Feature, ...]:
        """Return the features that the use case declares with the same type, and that a table holds by itself."""
        return tuple(f for f in self._declared(use_case) if not f.is_window and not f.is_expression)

    def _declared(self, use_case: UseCase) -> tuple[Feature, ...]:
        declared = use_case.features
        return tuple(f for f in self.features if f.name in declared and declared[f.name].type is f.type)

    def differences(self, use_case: UseCase) -> list[str]:
        """Describe what cannot be compared, one text each."""
        alike = {f.name for f in self._declared(use_case)}
        # Of a text the version has its scores.
        read = {f.declared_name for f in self.features}
        declared, of_text = set(use_case.features), read & set(use_case.texts)
        texts = {
            "it is a text": of_text,
            "it is computed from events or other features": alike - {f.name for f in self.comparable(use_case)},
            "the version reads it, the use case does not declare it": read - declared,
            "it is of another type in the version": (read & declared) - alike - of_text,
            "the version does not read it": declared - read,
        }
        told = [f"not compared: {', '.join(sorted(names))} ({text})" for text, names in texts.items() if names]
        if self.profile is None:
            told.append("the version was registered without a profile of its train rows: only words are compared")
        return told


@dataclass
class BlockCoverage:
    """What one block of a table holds that the version does not know. Row numbers count from the block's first row."""

    missing: dict[str, int]
    """Rows in which each feature is missing, as the version means it."""
    words: dict[str, Counter[str]]
    """Rows by unknown word, of each category that has some; the most frequent words."""
    hits: dict[tuple[str, str], Hits]
    blind: np.ndarray
    """Numbers of all blind rows, ascending."""


def cover(table: pa.Table, model: TrainedModel, use_case: UseCase) -> BlockCoverage:
    """Hold a block of n rows against a version.

    Raises:
        DataError: a column is of a type that cannot hold its feature.
    """
    found = BlockCoverage({}, {}, {}, np.empty(0, np.int64))
    blind = np.zeros(table.num_rows, bool)
    features = [each for each in model.comparable(use_case) if set(each.inputs) <= set(table.column_names)]
    derived = derive(table, features).values
    for feature in features:
        name = feature.name
        # A time that is none is told by the checks of the use case; here what comes from it is missing.
        column = table.column(name) if name not in derived else pa.chunked_array([derived[name]])
        encoder = FeatureEncoder(feature.without_default())
        missing = encoder.missing_mask(column)
        found.missing[name] = int(missing.sum())
        profile = model.profile.features.get(name) if model.profile else None
        for spot, mask in _blind_spots(feature, encoder.column(column), missing, profile):
            if not mask.any():
                continue
            blind |= mask
            found.hits[(name, spot)] = hits_of(mask)
            if spot == UNKNOWN:
                found.words[name] = _words(column.filter(pa.array(mask)), name)
    found.blind = np.flatnonzero(blind)
    return found


def _blind_spots(
    feature: Feature, codes: np.ndarray, missing: np.ndarray, profile: FeatureProfile | None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each blind spot with the rows that have it; `codes` are the encoded values, missing ones as NaN."""
    if feature.type is FeatureType.CATEGORY:
        unused = set(profile.unused) if profile else set()
        of_no_row = [code for code, word in enumerate(feature.vocabulary or ()) if word in unused]
        yield UNKNOWN, (np.isnan(codes) & ~missing) | np.isin(codes, of_no_row)
    elif profile and profile.low is not None and profile.high is not None:
        yield BELOW, codes < np.float32(profile.low)
        yield ABOVE, codes > np.float32(profile.high)


def _words(column: pa.ChunkedArray, name: str) -> Counter[str]:
    counts = pc.call_function("value_counts", [as_strings(column, name)])
    return _most_frequent(Counter({each["values"]: each["counts"] for each in counts.to_pylist()}))


def _most_frequent(words: Counter[str]) -> Counter[str]:
    # Ties go by the word, so that the order of the blocks decides nothing.
    return Counter(dict(sorted(words.items(), key=lambda pair: (-pair[1], pair[0]))[:_WORDS_KEPT]))


@dataclass
class ModelCoverage:
    """What a whole table holds that the version does not know. Row numbers count from the table's first row."""

    model: TrainedModel
    features: tuple[Feature, ...]
    """The features that were compared."""
    notes: list[str]
    """What could not be compared."""
    rows: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    words: dict[str, Counter[str]] = field(default_factory=dict)
    hits: dict[tuple[str, str], Hits] = field(default_factory=dict)
    blind: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def profile(self, name: str) -> FeatureProfile | None:
        """Return what the train rows held of a compared feature; None when that is not known."""
        return self.model.profile.features.get(name) if self.model.profile else None

    def share(self, rows: int) -> Share:
        """Return so many rows as a share of the table."""
        return Share(rows, self.rows)

    def trained_share(self, rows: int) -> Share:
        """Return so many rows as a share of the train rows."""
        return Share(rows, self.model.profile.rows if self.model.profile else 0)

    def missing_differs(self, name: str) -> bool:
        """Return whether the share of missing values is another than in training, by more than chance explains."""
        then = self.profile(name)
        return then is not None and self.share(self.missing[name]).differs(self.trained_share(then.missing))

    def problems(self) -> list[str]:
        """Describe the features that no row has, although the version was trained with them, one text each."""
        gone = [f.name for f in self.features if self.missing[f.name] == self.rows and self.missing_differs(f.name)]
        return [f"{name}: missing in every row, but {self.model.title} was trained with it" for name in gone]


def merge_coverage(
    model: TrainedModel, use_case: UseCase, parts: Iterable[tuple[int, int, BlockCoverage]]
) -> ModelCoverage:
    """Merge the blocks of a table, one at least: of each the number of its first row, its rows, and what was found."""
    merged = ModelCoverage(model, model.comparable(use_case), model.differences(use_case))
    blind: list[np.ndarray] = []
    for first, rows, part in parts:
        merged.rows += rows
        merged.missing.update(part.missing)
        for name, words in part.words.items():
            merged.words[name] = _most_frequent(merged.words.get(name, Counter()) + words)
        for check, hits in part.hits.items():
            add_hits(merged.hits, check, hits, first)
        blind.append(part.blind + first)
    merged.blind = np.sort(np.concatenate(blind))
    return merged
