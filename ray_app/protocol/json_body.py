"""From the bytes of a request's body to a JSON value, with nothing in it changed or dropped unsaid.

The decoder keeps the last of two members of one name, and refuses a number beyond double precision without its field's
name. Here the first is refused, and the second handed on for the field's own check to refuse it.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from contextlib import suppress
from typing import Any

import orjson

from data.errors import InvalidRow
from ray_app.protocol.responses import HttpProblem

_BLANKS = b" \t\r\n"
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
# A quote that is never closed matches too: tried again at each quote behind it, a long body would take minutes.
_STRING_OR_NUMBER = re.compile(_STRING + rb"?|[-+.\deE]{5,}", re.DOTALL)
_NUMBER = re.compile(rb"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_NAME_OR_BRACE = re.compile(rb"(" + _STRING + rb")([ \t\r\n]*:)?|[{}]", re.DOTALL)
_LARGEST = b"1.7976931348623157e308"
_TOO_LARGE = "number is infinity"
_MAYBE_NEGATIVE_ZERO = re.compile(rb"-0(?=[ \t\r\n,}\]]|\Z)")
# Neither in a string nor the exponent of 1e-0. Not asked of every body: what begins with a literal is found faster.
_STRING_OR_NEGATIVE_ZERO = re.compile(_STRING + rb"?|(?<![eE])" + _MAYBE_NEGATIVE_ZERO.pattern, re.DOTALL)

_NOT_UTF8 = "The body is not UTF-8"
_GZIP = b"\x1f\x8b"
_SHOWN_CHARACTERS = 80


def decode(body: bytes) -> Any:
    """Decode a JSON body (RFC 8259) in UTF-8; a byte order mark before it is ignored.

    A number beyond double precision becomes the largest double of its sign, which no field accepts: so the field that
    has it is refused by name, and its neighbours are not. And `-0` becomes -0.0, since no integer has its sign: a key
    of 0 would come back for it.

    Raises:
        HttpProblem: 400, the body is empty, not UTF-8, not JSON (which has no NaN and Infinity), nested too deeply,
            or names a member of one object twice.
    """
    sent = body
    if _MAYBE_NEGATIVE_ZERO.search(body):
        body = _STRING_OR_NEGATIVE_ZERO.sub(_as_double, body)
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        body = body.removeprefix(codecs.BOM_UTF8)
        try:
            decoded = _decode_within_double(body)
        except orjson.JSONDecodeError as exc:
            raise _problem(body, exc) from exc
    # Every member has a colon, so equal counts prove that none was dropped. Only where strings hold colons too, or
    # objects are nested, is there more to count.
    members = len(decoded) if type(decoded) is dict else _members(decoded)
    if body.count(b":") != members and body.translate(None, _BLANKS).count(b'":') != members:
        _refuse_repeated_names(sent)
    return decoded


def _decode_within_double(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        if _TOO_LARGE not in exc.msg:
            raise
    return orjson.loads(_STRING_OR_NUMBER.sub(_within_double, body))


def _members(decoded: Any) -> int:
    """The number of members of all objects directly in an array."""
    if type(decoded) is list:
        return sum(len(item) for item in decoded if type(item) is dict)
    return 0


def _within_double(found: re.Match[bytes]) -> bytes:
    text = found[0]
    if _NUMBER.fullmatch(text) and math.isinf(float(text)):
        return b"-" + _LARGEST if text.startswith(b"-") else _LARGEST
    return text


def _as_double(found: re.Match[bytes]) -> bytes:
    return b"-0.0" if found[0] == b"-0" else found[0]


def _refuse_repeated_names(body: bytes) -> None:
    """Raise HttpProblem if an object of the body, which must be JSON, has two members of one name."""
    open_objects: list[set[Any]] = []
    for found in _NAME_OR_BRACE.finditer(body):
        if found[0] == b"{":
            open_objects.append(set())
        elif found[0] == b"}":
            open_objects.pop()
        elif found[2]:
            # Decoded, because one name can be spelled in several ways: "a" is "\u0061".
            name = orjson.loads(found[1])
            if name in open_objects[-1]:
                raise _repeated(name, found.start())
            open_objects[-1].add(name)


def _repeated(name: str, position: int) -> HttpProblem:
    shown = name if len(name) <= _SHOWN_CHARACTERS else name[: _SHOWN_CHARACTERS - 3] + "..."
    fault = InvalidRow(shown, f"is there twice in one object, again at byte {position:,}; send it once")
    return HttpProblem(400, "The body names a field twice", str(fault), errors=(fault,))


def _problem(body: bytes, exc: orjson.JSONDecodeError) -> HttpProblem:
    if not body.strip():
        return HttpProblem(400, "The body is empty", "send a JSON object with the features, or an array of them")
    if found := _other_encoding(body):
        return HttpProblem(400, _NOT_UTF8, f"{found}; send JSON in UTF-8")
    hint = " (NaN and Infinity are not JSON)" if b"NaN" in body or b"Infinity" in body else ""
    return HttpProblem(400, "The body is not JSON", f"{exc}{hint}")


def _other_encoding(body: bytes) -> str | None:
    """Say what a body looks like that is not UTF-8; None when it is UTF-8."""
    if body.startswith(_GZIP):
        return "it looks like gzip, for which the header content-encoding: gzip is missing"
    wide = json.detect_encoding(body)
    if not wide.startswith("utf-8"):
        with suppress(UnicodeDecodeError):
            body.decode(wide)
            return f"it looks like {wide.upper()}"
    try:
        body.decode()
    except UnicodeDecodeError as exc:
        text = body.lstrip().startswith((b"{", b"["))
        guess = ", as in Latin-1 or Windows-1252" if text else ""
        return f"byte {exc.start:,} is 0x{body[exc.start]:02X}{guess}"
    return None
