"""The use case of the tests: card transactions with features that may come from the online store."""

from __future__ import annotations

from pathlib import Path

from data.schema.use_case import UseCase, load_use_case

STORED_CARDS = Path(__file__).with_suffix(".toml")
"""Its file. The name in it is that of the shipped one, which commands and registries go by when none is said."""


def stored_cards() -> UseCase:
    """Return the use case; each call makes another."""
    return load_use_case(STORED_CARDS)
