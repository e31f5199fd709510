"""The reason codes of an answer as a use case declares them: how many there are, and their texts."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Annotated

from pydantic import Field

from data.schema.model_policy import PolicyTable


class ReasonCodes(PolicyTable):
    """The features that raise the score of a row most, each with a text for those who read the answer."""

    top: Annotated[int, Field(ge=1, le=20)] = 3
    """Most reasons of one answer."""
    texts: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """Feature -> what is said when it is a reason; one without a text goes by its name."""

    def text(self, feature: str) -> str:
        """Return the text of a feature: the declared one, else its name."""
        return self.texts.get(feature, feature)

    def check(self, features: Collection[str]) -> None:
        """Raise ValueError when a text is of none of the features."""
        for name in self.texts:
            if name not in features:
                near = difflib.get_close_matches(name, features, n=1)
                raise ValueError(
                    f"explanation.texts.{name}: no such feature" + (f"; did you mean '{near[0]}'?" if near else "")
                )
