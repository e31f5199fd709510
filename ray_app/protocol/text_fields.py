"""The text fields of a request: their checks, and the scores that their models give them."""

from __future__ import annotations

from typing import Any

from data.errors import InvalidRow
from data.schema.features.feature import MAX_TEXT, TextScorer
from data.schema.features.feature_schema import FeatureSchema
from data.transform.encoding import json_type
from data.transform.missing import is_missing

TEXT_FIELD = {"type": "string", "maxLength": MAX_TEXT}
"""A text as JSON Schema has it."""


class TextFields:
    """Reads the texts of requests, for one model's schema."""

    def __init__(self, schema: FeatureSchema) -> None:
        self._fields: dict[str, tuple[TextScorer, bool, list[tuple[int, int]]]] = {}
        for at, feature in enumerate(schema.features):
            if feature.score is not None:
                _, _, places = self._fields.setdefault(feature.inputs[0], (feature.scorer, feature.required, []))
                places.append((at, feature.score.at))

    @property
    def any(self) -> bool:
        """Whether the model reads a text."""
        return bool(self._fields)

    def fill(self, item: dict[str, Any], encoded: list[float | None], errors: list[InvalidRow]) -> None:
        """Write the scores of an object's texts into its encoded features, of a missing one nothing.

        What is wrong is added to `errors`; where there are any, nothing is computed.
        """
        for name, (scorer, required, places) in self._fields.items():
            text = item.get(name)
            if is_missing(text):
                errors += [InvalidRow(name, "is required")] if required else []
            elif not isinstance(text, str):
                errors.append(InvalidRow(name, f"expected a string, got {json_type(text)}"))
            elif len(text) > MAX_TEXT:
                errors.append(InvalidRow(name, f"is longer than {MAX_TEXT:,} characters"))
            elif not errors:
                scores = scorer.scores(text)
                for at, number in places:
                    encoded[at] = scores[number]
