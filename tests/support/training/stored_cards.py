"""The use case of tests and benchmarks: card transactions with features that may come from the online store."""

from __future__ import annotations

from pathlib import Path

from data.schema.features.feature import Source
from data.schema.use_case import UseCase, load_use_case

STORED_CARDS = Path(__file__).with_suffix(".toml")
"""Its file. The name in it is that of the shipped one, which commands and registries go by when none is said."""


def stored_cards() -> UseCase:
    """Return the use case; each call makes another."""
    return load_use_case(STORED_CARDS)


def sent_cards(**changed: object) -> UseCase:
    """Return the use case with every feature sent by the caller, and nothing stored; `changed` are other keys."""
    declared = stored_cards()
    features = {name: {**feature.model_dump(), "source": Source.REQUEST} for name, feature in declared.features.items()}
    alone = {"features": features, "entity": None, "materialized": None}
    return UseCase.model_validate({**declared.model_dump(), **alone, **changed})
