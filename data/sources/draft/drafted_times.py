"""Drafted derivations: the features that a draft offers for a column of times, such as its weekday or its age."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data.schema.features.feature import Derivation, Feature, FeatureType
from data.sources.draft.column_profile import Column, Context
from data.sources.draft.drafted_feature import DraftedFeature, remark, toml_key
from data.sources.draft.label_leakage import levels, telltale
from data.sources.toml_text import quoted
from data.transform.derived_time import derive_from
from data.transform.time_values import Times


@dataclass(frozen=True)
class TimeDrafts:
    """Drafts features that are derived from times.

    `event_time` is the column at whose time an age is taken, None without one; `taken` are the table's columns, whose
    names no derived feature gets.
    """

    event_time: str | None
    taken: frozenset[str]

    def draft(self, column: Column, context: Context) -> list[DraftedFeature]:
        """Declare what varies of a column of times: its hour, its weekday, and its age at the event time."""
        return [
            _drafted(feature, values, context)
            for feature in self._features(column)
            if (values := _values(feature, column, context)).distinct > 1
        ]

    def _features(self, column: Column) -> Iterator[Feature]:
        asked = [(Derivation.HOUR, None), (Derivation.WEEKDAY, None), (Derivation.AGE_DAYS, self.event_time)]
        for derivation, as_of in asked:
            name = f"{column.name}_{derivation.value}"
            aged = derivation is Derivation.AGE_DAYS
            if name in self.taken or (aged and as_of is None):
                continue
            kind = FeatureType.NUMBER if aged else FeatureType.INTEGER
            yield Feature(name=name, type=kind, derive=derivation, column=column.name, as_of=as_of)


def _values(feature: Feature, column: Column, context: Context) -> Column:
    moments = {column.name: column.times}
    if feature.as_of is not None and context.times is not None:
        moments[feature.as_of] = Times(context.times, np.zeros(len(context.times), bool))
    return Column(feature.name, pa.chunked_array([pa.array(derive_from(feature, moments), from_pandas=True)]))


def _drafted(feature: Feature, values: Column, context: Context) -> DraftedFeature:
    suspect = telltale(values, context)
    found = suspect.levels if suspect else levels(values, context)
    return DraftedFeature(_line(feature, values), feature.name, suspect, found)


def _line(feature: Feature, values: Column) -> str:
    derivation = feature.derive.value if feature.derive else ""
    parts = [f'type = "{feature.type.value}"', f'derive = "{derivation}"', f"column = {quoted(feature.column or '')}"]
    if feature.as_of is not None:
        parts.append(f"as_of = {quoted(feature.as_of)}")
    if values.missing:
        parts.append("optional = true")
    return f"{toml_key(feature.name)} = {{ {', '.join(parts)} }}  # {remark(values, feature.type.value)}"
