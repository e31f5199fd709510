"""The decoder of request bodies against a strict reference, and what it says of a body that it refuses."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.protocol.json_body import decode
from ray_app.protocol.responses import HttpProblem

_LARGEST = 1.7976931348623157e308


class _Repeated(ValueError):
    """An object of the reference has a name twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise _Repeated
    return dict(pairs)


def _integer(text: str) -> int | float:
    number = int(text)
    if text == "-0":
        return -0.0
    return number if -(2**63) <= number < 2**64 else _number(text)


def _number(text: str) -> float:
    return max(-_LARGEST, min(_LARGEST, float(text)))


def reference(body: str) -> Any:
    """Decode by the standard library, pair by pair and digit by digit."""
    return json.loads(body, object_pairs_hook=_object, parse_int=_integer, parse_float=_number)


_TEXTS = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(
    ['":', '" :', "\\", '"', "1e400", "{", "}", "12:30:00", "-0,", '{"a":1,"a":2}', "\\u0061"]
)


@st.composite
def _strings(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """A JSON string, each character as itself or escaped."""
    text = draw(texts)
    if draw(st.booleans()):
        return json.dumps(text, ensure_ascii=draw(st.booleans()))
    units = text.encode("utf-16-be").hex()
    return '"' + "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)) + '"'


_SPACE = st.sampled_from(["", "", "", " ", "\n", "\t ", "\r\n"])
_NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(["-0", "-0.0", "1e-0", "-0e-0", "0"]),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.tuples(st.integers(-99, 99), st.integers(300, 320)).map(lambda parts: "{}e{}".format(*parts)),
    st.tuples(st.sampled_from(["", "-"]), st.integers(305, 330)).map(lambda parts: parts[0] + "9" * parts[1]),
)
_SCALARS = st.sampled_from(["null", "true", "false"]) | _NUMBERS | _strings(_TEXTS)
# Few names, so that many objects have one twice.
_NAMES = _strings(st.sampled_from(["a", "b", "amount", ":", '":', "{"]) | _TEXTS)


def _joined(opening: str, items: st.SearchStrategy[str], closing: str) -> st.SearchStrategy[str]:
    return st.lists(items, max_size=5).map(lambda found: opening + ",".join(found) + closing)


def _containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.tuples(_SPACE, _NAMES, _SPACE, st.just(":"), _SPACE, inner, _SPACE).map("".join)
    return _joined("{", members, "}") | _joined("[", inner, "]")


@given(st.recursive(_SCALARS, _containers, max_leaves=20))
def test_agrees_with_a_strict_reference(body: str):
    """Any JSON text is decoded to the reference's value, or refused where the reference finds a name twice."""
    try:
        expected = reference(body)
    except _Repeated:
        with pytest.raises(HttpProblem, match="is there twice in one object") as caught:
            decode(body.encode())
        assert caught.value.status == 400
    else:
        assert repr(decode(body.encode())) == repr(expected)


@given(st.recursive(_SCALARS, _containers, max_leaves=8), st.data())
def test_damaged_json_is_not_mended(body: str, data: st.DataObject):
    """What the reference cannot read after a character was changed, is refused as well."""
    at = data.draw(st.integers(0, len(body) - 1))
    damaged = body[:at] + data.draw(st.sampled_from(["", *'{}[]",:\\+-.0eE1 '])) + body[at + 1 :]
    try:
        reference(damaged)
    except ValueError:
        with pytest.raises(HttpProblem):
            decode(damaged.encode())


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"amount":312.5,"hour":1,"amount":1}', "amount"),
        (b'{"amount":1,"amount":1}', "amount"),
        (b'{"amount" :1,"amount"\n:2}', "amount"),
        (b'{"amount":1,"a\\u006dount":2}', "amount"),
        (b'{"t":"12:30","amount":1,"amount":2}', "amount"),
        (b'[{"a":1},{"b":1,"b":2}]', "b"),
        (b'["x",{"a":1,"a":2}]', "a"),
        (b'{"rows":[{"a":1,"a":2}]}', "a"),
        (b'{"a":{"b":1},"a":{"b":1}}', "a"),
        (b'{"":1,"":2}', ""),
        (b'{"n":1e400,"n":1}', "n"),
        (b'{"' + b"x" * 200 + b'":1,"' + b"x" * 200 + b'":2}', "x" * 77 + "..."),
    ],
)
def test_name_that_is_there_twice_is_refused(body: bytes, name: str):
    """Two members of one name are 400 with that name, in whatever spelling and depth they are."""
    with pytest.raises(HttpProblem, match="is there twice in one object") as caught:
        decode(body)
    assert (caught.value.status, caught.value.errors[0].field) == (400, name)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"b:c","b":"\\":","c":": "}',
        b'{"a":{"a":{"a":1}}}',
        b'[{"a":1},{"a":1}]',
        b'{"a":"{\\"b\\":1,\\"b\\":2}"}',
        b'{"a" : ":", ":" : "a", "\\"" : "}"}',
        b'{"a":' * 1000 + b"1" + b"}" * 1000,
    ],
)
def test_colons_and_equal_names_elsewhere_are_no_repetition(body: bytes):
    """Colons, quotes and braces in strings, and one name in several objects, are taken as they are."""
    decode(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"a":1}'.encode("utf-16"), "UTF-16"),
        ('{"a":1}'.encode("utf-16-le"), "UTF-16-LE"),
        ('{"a":1}'.encode("utf-16-be"), "UTF-16-BE"),
        ('{"a":1}'.encode("utf-32"), "UTF-32"),
        ('{"a":1}'.encode("utf-32-be"), "UTF-32-BE"),
        ('{"a":"Zürich"}'.encode("latin-1"), "byte 7 is 0xFC, as in Latin-1 or Windows-1252"),
        ('{"a":"“"}'.encode("cp1252"), "byte 6 is 0x93, as in Latin-1 or Windows-1252"),
        (gzip.compress(b"{}", mtime=0), "gzip, for which the header content-encoding: gzip is missing"),
        (b"\x80\x04\x95", "byte 0 is 0x80; send JSON in UTF-8"),
        (b"\xff\xfe\x00\xd8", "byte 0 is 0xFF; send JSON in UTF-8"),
    ],
)
def test_other_encoding_is_named(body: bytes, words: str):
    """A body that is not UTF-8 is refused as that, with what it looks like."""
    with pytest.raises(HttpProblem, match=words) as caught:
        decode(body)
    assert (caught.value.status, caught.value.title) == (400, "The body is not UTF-8")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[NaN]", r"\(NaN and Infinity are not JSON\)"),
        (b"[-Infinity]", r"\(NaN and Infinity are not JSON\)"),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", "line 1 column 1"),
        (b"[,]", r"line 1 column 2 \(char 1\)$"),
        (b'["\\ud800"]', "surrogate"),
        (b"[" * 1025 + b"]" * 1025, "depth limit exceeded"),
        (b'{"a":' * 1025 + b"1" + b"}" * 1025, "depth limit exceeded"),
        (b"[01e400]", "line 1"),
        (b'["\x00"]', "control character"),
        (b'"' + b'\\"' * 500_000, "line 1"),
    ],
)
def test_what_is_not_json_is_explained(body: bytes, words: str):
    """A body that is not JSON is refused with the place, and NaN is explained where there is one."""
    with pytest.raises(HttpProblem, match=words) as caught:
        decode(body)
    assert (caught.value.status, caught.value.title) == (400, "The body is not JSON")


def test_number_beyond_double_becomes_the_largest():
    """A number that no double holds is handed on as the largest of its sign; text that looks like one stays text."""
    body = b"\xef\xbb\xbf[1e400,-1e400," + b"9" * 400 + b',"1e400",1.5e308,-0.0]'
    assert repr(decode(body)) == repr([_LARGEST, -_LARGEST, _LARGEST, "1e400", 1.5e308, -0.0])
    assert all(math.isfinite(value) for value in decode(body) if isinstance(value, float))
