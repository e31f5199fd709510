"""The feature schema: names, types, order, vocabularies and defaults of a model's features.

With `feature`, the bottom of the import graph: every other module uses their types.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data.schema.features.feature import Feature, FeatureType, TextScore, TextScorer


class FeatureSchema(BaseModel):
    """The ordered features of one model: column i of the float32 matrix is `features[i]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    features: Annotated[tuple[Feature, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> FeatureSchema:
        names = [feature.name for feature in self.features]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"feature named twice: {', '.join(sorted(twice))}")
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Feature names in matrix order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that all features come from, each once, in the order of the features."""
        return tuple(dict.fromkeys(name for feature in self.features for name in feature.inputs))

    @cached_property
    def derived(self) -> tuple[Feature, ...]:
        """The features that are computed from times, in schema order."""
        return tuple(feature for feature in self.features if feature.derive is not None)

    @cached_property
    def scores(self) -> tuple[Feature, ...]:
        """The features that are scores of texts, in schema order."""
        return tuple(feature for feature in self.features if feature.score is not None)

    @cached_property
    def times(self) -> tuple[str, ...]:
        """The columns with the times that features are derived from, each once."""
        return tuple(dict.fromkeys(name for feature in self.derived for name in feature.inputs))

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The columns with the texts that scores are of, each once."""
        return tuple(dict.fromkeys(name for feature in self.scores for name in feature.inputs))

    @cached_property
    def windows(self) -> tuple[Feature, ...]:
        """The features that aggregate events, in schema order."""
        return tuple(feature for feature in self.features if feature.is_window)

    @cached_property
    def expressions(self) -> tuple[Feature, ...]:
        """The features that are computed from other features, in schema order."""
        return tuple(feature for feature in self.features if feature.is_expression)

    @cached_property
    def online(self) -> tuple[Feature, ...]:
        """The features the online store holds, in schema order."""
        return tuple(feature for feature in self.features if feature.online)

    @cached_property
    def monotone(self) -> tuple[int, ...]:
        """Of each feature the direction that is declared of the probability: 1, -1, or 0 for none."""
        return tuple(feature.monotone or 0 for feature in self.features)

    @property
    def fitted(self) -> bool:
        """Whether every category has its vocabulary and every text its scores, so that rows can be encoded."""
        unfitted = (f for f in self.features if f.type in (FeatureType.CATEGORY, FeatureType.TEXT))
        return all(f.vocabulary is not None for f in unfitted)

    @cached_property
    def fingerprint(self) -> str:
        """Hash (16 hex digits) of everything that determines an encoded row; equal schemas encode alike."""
        return _digest(
            [feature.model_dump(mode="json", exclude={"description", "monotone"}) for feature in self.features]
        )

    @cached_property
    def view_fingerprint(self) -> str:
        """Hash (16 hex digits) of the online features' names and types alone, so a refit keeps stored rows valid."""
        return _digest([[feature.name, feature.type.value] for feature in self.online])

    def with_vocabularies(self, fitted: Mapping[str, tuple[str, ...]]) -> FeatureSchema:
        """Return a copy with `fitted` vocabularies, by feature name, set on the categories that have none."""
        return FeatureSchema(
            features=tuple(
                f.model_copy(update={"vocabulary": fitted[f.name]})
                if f.type is FeatureType.CATEGORY and f.vocabulary is None
                else f
                for f in self.features
            )
        )

    def with_text_scores(self, fitted: Mapping[str, tuple[Sequence[str], TextScorer]]) -> FeatureSchema:
        """Return a copy with the scores of each text in its place.

        Args:
            fitted: by text feature the names of its scores, and the model that gives them.
        """
        features: list[Feature] = []
        for feature in self.features:
            if feature.type is not FeatureType.TEXT:
                features.append(feature)
                continue
            names, scorer = fitted[feature.name]
            features += [_score(feature, name, at, scorer) for at, name in enumerate(names)]
        return FeatureSchema(features=tuple(features))

    def with_scorers(self, scorers: Mapping[str, TextScorer]) -> FeatureSchema:
        """Return a copy whose text scores have their models; raises KeyError where `scorers`, by digest, lack one."""
        return FeatureSchema(
            features=tuple(f if f.score is None else f.scored_by(scorers[f.score.model]) for f in self.features)
        )


def _score(text: Feature, name: str, at: int, scorer: TextScorer) -> Feature:
    score = Feature(
        name=f"{text.name}[{name}]",
        type=FeatureType.NUMBER,
        optional=text.optional,
        column=text.name,
        score=TextScore(model=scorer.digest, at=at),
        description=text.description,
    )
    return score.scored_by(scorer)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
