"""Names of columns that are added to a table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from data.transform.table_columns import free_name

_NAMES = st.lists(st.sampled_from(["reasons", "reasons_2", "reasons_3", "reasons_2_2", "x"]), unique=True)


@given(st.sampled_from(["reasons", "reasons_2"]), _NAMES)
def test_added_column_has_a_name_of_its_own(name: str, taken: list[str]):
    """The wanted name where it is free, else the first with a number behind it that is."""
    found = free_name(name, taken)
    assert found not in taken
    assert found == name or (name in taken and found.startswith(f"{name}_"))
