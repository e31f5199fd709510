"""Values as TOML text: what is written is read back as the same value."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
import tomli

from data.sources.toml_text import toml_value


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ('a "b" \\ \x7f é', 'a "b" \\ \x7f é'),
        (True, True),
        (2**53 + 1, 2**53 + 1),
        (np.int64(2**62 + 1), 2**62 + 1),
        (2.0, 2),
        (0.1, 0.1),
        (np.float64(-1.5), -1.5),
        (Decimal("3.00"), 3),
        (Decimal("0.25"), 0.25),
    ],
    ids=repr,
)
def test_value_is_read_back(value, read):
    """Text with its escapes, truth values, and numbers of any type, also whole ones that no float holds."""
    assert tomli.loads(f"x = {toml_value(value)}")["x"] == read
