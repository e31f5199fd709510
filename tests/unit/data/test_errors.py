"""What pydantic found wrong, in the words that every error of ours uses."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from data.errors import faults


class Inner(BaseModel):
    """Two numbers in order."""

    model_config = ConfigDict(extra="forbid")

    low: int
    high: int

    @model_validator(mode="after")
    def _ordered(self) -> Inner:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Outer(BaseModel):
    """Some of them."""

    ranges: list[Inner]


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ([{"low": 2, "high": 1}], [("ranges.0: low is above high", "value_error")]),
        ([{"low": 1, "high": 2, "mid": 1}], [("ranges.0.mid: Extra inputs are not permitted", "extra_forbidden")]),
        (
            [{"low": "x", "high": 1}, {"low": 1}],
            [
                (
                    "ranges.0.low: Input should be a valid integer, unable to parse string as an integer",
                    "int_parsing",
                ),
                ("ranges.1.high: Field required", "missing"),
            ],
        ),
    ],
)
def test_each_fault_has_its_place_and_reason(ranges: list, said: list[tuple[str, str]]):
    """Keys and list positions lead to the place, and the reason is free of pydantic's prefix."""
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"ranges": ranges})
    assert [(str(fault), fault.kind) for fault in faults(caught.value)] == said


def test_fault_of_the_whole_has_no_place():
    """What is wrong with the whole is said without a key."""
    with pytest.raises(ValidationError) as caught:
        Inner.model_validate({"low": 2, "high": 1})
    (fault,) = faults(caught.value)
    assert (str(fault), fault.place) == ("low is above high", "")
