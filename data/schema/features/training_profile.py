"""The training profile: what the train rows of a model held of each feature, small enough to travel in its bundle.

Profiles of the parts of a table merge into that of the whole, so a table larger than memory has the same one.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_Count = Annotated[int, Field(ge=0)]


class FeatureProfile(BaseModel):
    """What some train rows held of one feature."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    missing: _Count = 0
    """Rows in which it was missing."""
    low: float | None = None
    """Smallest number as the model saw it, in 32-bit floating point; None for a category, and where no row had one."""
    high: float | None = None
    """Largest number, likewise."""
    unknown: _Count = 0
    """Rows whose word is not in the vocabulary: one too rare for it, or not declared."""
    unused: tuple[str, ...] = ()
    """Words of the vocabulary that no row had; only a declared one has such words."""

    def merge(self, other: FeatureProfile) -> FeatureProfile:
        """Return the profile of these rows and of `other`'s."""
        lows, highs = (self.low, other.low), (self.high, other.high)
        unused = set(other.unused)
        return FeatureProfile(
            missing=self.missing + other.missing,
            low=min((low for low in lows if low is not None), default=None),
            high=max((high for high in highs if high is not None), default=None),
            unknown=self.unknown + other.unknown,
            unused=tuple(word for word in self.unused if word in unused),
        )


class TrainingProfile(BaseModel):
    """The train rows, and what they held of each feature by its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: _Count
    features: dict[str, FeatureProfile]

    def merge(self, other: TrainingProfile) -> TrainingProfile:
        """Return the profile of these rows and of `other`'s, which are of the same features."""
        merged = {name: profile.merge(other.features[name]) for name, profile in self.features.items()}
        return TrainingProfile(rows=self.rows + other.rows, features=merged)


def merge_profiles(parts: Iterable[TrainingProfile]) -> TrainingProfile:
    """Return the profile of all rows of at least one part."""
    return reduce(TrainingProfile.merge, parts)
