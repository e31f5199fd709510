"""When text is a number: only if the number prints back the same.

So `01220`, `1E5`, `+5`, ` 5`, `0x1F` and an id of twenty digits stay text, because a number would lose what they say.
Zeros at the end of a fraction (`12.50`), a missing zero before the point (`.5`) and an exponent behind a mantissa with
a point (`1.5E-3`) are spellings of a number that no key or code has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data.sources.csv.decimal_digits import proven_to_keep
from data.sources.csv.text_arrays import matches

_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*)?(?:\.[0-9]*)?")
_EXPONENT = re.compile(r"-?(?:0|[1-9][0-9]*)?\.[0-9]*[eE][+-]?[0-9]+")
_INFINITE = re.compile(r"-?inf(?:inity)?", re.IGNORECASE)

_EXACT_WHOLE = 2**53
"""Up to here a double holds every whole number."""
_SAFE_DIGITS = 15
"""A double keeps every number of so many digits."""

_PLAIN_BYTES = b"0123456789.-"


def prints_back(text: str) -> bool:
    """Tell whether the double that a text stands for prints back the same: no digit, sign or zero is lost."""
    if _PLAIN.fullmatch(text):
        whole = "." not in text
        return keeps_digits(text) and not (whole and abs(int(text)) > _EXACT_WHOLE)
    if _EXPONENT.fullmatch(text):
        return keeps_digits(text)
    if _INFINITE.fullmatch(text):
        return True
    # 1e-07 is how 0.0000001 is printed (by some without the zero); 1E5 is not how 100000 is.
    return _is_number(text) and repr(float(text)).replace("e-0", "e-") == text.lower().replace("e-0", "e-")


def keeps_digits(text: str) -> bool:
    """Tell whether a double keeps all digits of a number, however it is spelled: printed to as many it is the same."""
    if not _is_number(text):
        return False
    value = float(text)
    mantissa, exponent, _ = text.partition("e")
    fraction = len(mantissa.partition(".")[2])
    # As most programs print; Decimal, which knows every spelling, takes three times as long.
    if format(value, f".{fraction}{exponent or 'f'}") == text or _INFINITE.fullmatch(text.strip().lstrip("+")):
        return True
    number = Decimal(text.strip())
    digits = max(len(number.as_tuple().digits), 1)
    # The shortest text that is read as the double may be no closer than another: 5.960464477539063e-08 is half-way.
    return number in (Decimal(format(value, f".{digits - 1}e")), Decimal(repr(value)))


def first_lossy(text: pa.StringArray, numbers: pa.Array, keeps: Callable[[str], bool]) -> int | None:
    """Return the index of the first text whose number does not keep it, or None; nulls are passed over.

    Args:
        text: what was written, with a point as the decimal sign.
        numbers: the same values as int64 or float64.
        keeps: the rule, `prints_back` or `keeps_digits`.
    """
    exact = pa.types.is_integer(numbers.type)
    rows = np.flatnonzero(_suspects(text, exact))
    if not exact:
        rows = _unproven(rows, text, numbers)
    if not rows.size:
        return None
    spelled, read = _taken(text, rows), _taken(numbers, rows)
    differs = pc.call_function("not_equal", [read.cast(pa.string()), spelled])
    differs = differs.fill_null(False).to_numpy(zero_copy_only=False)
    for row, value in zip(rows[differs].tolist(), spelled.filter(pa.array(differs)).to_pylist(), strict=True):
        # An integer has one spelling; the rule for doubles would take 007.0 and 12.50 alike.
        if (exact and keeps is prints_back) or not keeps(value):
            return row
    return None


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text)) and "_" not in text
    except ValueError:
        return False


def _unproven(rows: npt.NDArray[np.int64], text: pa.StringArray, numbers: pa.Array) -> npt.NDArray[np.int64]:
    """Leave out the rows of which whole columns tell that nothing is lost, as value by value it takes long."""
    return rows[~proven_to_keep(_taken(text, rows), _taken(numbers, rows))]


def _taken(array: pa.Array, rows: npt.NDArray[np.int64]) -> pa.Array:
    return array if len(rows) == len(array) else array.take(pa.array(rows))


def _suspects(text: pa.StringArray, exact: bool) -> npt.NDArray[np.bool_]:
    """Mark what needs a closer look: many digits, zeros that lead, anything but digits, point and minus.

    Args:
        text: what was written.
        exact: it was read as integers, which keep any number of digits.
    """
    _, bounds, content = text.buffers()
    if bounds is None or content is None or not content.size:
        return np.zeros(len(text), bool)
    offsets = np.frombuffer(bounds, np.int32)[text.offset : text.offset + len(text) + 1]
    bytes_in_all = int(offsets[-1] - offsets[0])
    if bytes_in_all == len(text) and not text.null_count:
        # One digit each.
        return np.zeros(len(text), bool)
    data = np.frombuffer(content, np.uint8)
    last = data.size - 1
    start, end = offsets[:-1], offsets[1:]
    lead = data[np.minimum(start, last)]
    negative = lead == ord("-")
    if negative.any():
        start = start + negative
        lead = data[np.minimum(start, last)]
    found = np.zeros(len(text), bool) if exact else (end - offsets[:-1]) > _SAFE_DIGITS
    # 0 and 0.5 are fine, 00 and 07 are not; nor is -0 as an integer.
    zeros = np.flatnonzero((lead == ord("0")) & (end - offsets[:-1] > 1))
    found[zeros] |= (data[np.minimum(start[zeros] + 1, last)] != ord(".")) | (end[zeros] - start[zeros] == 1)
    if content[int(offsets[0]) : int(offsets[-1])].to_pybytes().translate(None, _PLAIN_BYTES):
        found |= matches(text, "[^0-9.-]").fill_null(False).to_numpy(zero_copy_only=False)
    return found
