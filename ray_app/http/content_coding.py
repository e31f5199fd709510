"""Content codings of a request's body (RFC 9110): gzip and deflate are decoded, within the size limit of a body."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from ray_app.protocol.responses import HttpProblem

_GZIP = (b"gzip", b"x-gzip")
_DEFLATE = b"deflate"
# Each member is copied with all that is behind it: thousands in one body would take seconds.
_MOST_MEMBERS = 16


def read_coding(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Return the body's content coding in lower case; None when it is not encoded.

    Raises:
        HttpProblem: 415, the coding is not gzip, x-gzip or deflate, or there are several.
    """
    sent = headers.get(b"content-encoding")
    if sent is None:
        return None
    codings = [coding.strip() for coding in sent.lower().split(b",")]
    codings = [coding for coding in codings if coding not in (b"", b"identity")]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in (*_GZIP, _DEFLATE):
        shown = sent.decode("latin-1")[:100]
        detail = f"send content-encoding: gzip, deflate, or none, not {shown}"
        raise HttpProblem(415, "Wrong content coding", detail, {"accept-encoding": "gzip, deflate"})
    return codings[0]


def decompress(body: bytes, coding: bytes, limit: int) -> bytes:
    """Decode a body; at most `limit` + 1 bytes of it are ever made.

    Raises:
        HttpProblem: 413, it decodes to more than `limit` bytes; 400, it is not of this coding, damaged or cut short.
    """
    decoded, rest = b"", body
    # A gzip body is a series of members.
    for _ in range(1 if coding == _DEFLATE else _MOST_MEMBERS):
        stream = zlib.decompressobj(_format(rest, coding))
        try:
            decoded += stream.decompress(rest, limit + 1 - len(decoded))
        except zlib.error as exc:
            raise _broken(coding, str(exc).rpartition(": ")[2]) from exc
        if len(decoded) > limit:
            detail = f"at most {limit:,} bytes are taken, counted after decoding; send fewer items"
            raise HttpProblem(413, "The body is too large", detail)
        if not stream.eof:
            raise _broken(coding, "it is cut short")
        # Zeros behind the last member fill up a block.
        rest = stream.unused_data.lstrip(b"\0")
        if not rest:
            return decoded
    more = f"{len(rest):,} bytes follow its end" if coding == _DEFLATE else f"it has more than {_MOST_MEMBERS} members"
    raise _broken(coding, more)


def _format(body: bytes, coding: bytes) -> int:
    """Return zlib's number of a format. "deflate" is that with zlib's header, which some clients leave out."""
    if coding != _DEFLATE:
        return 16 + zlib.MAX_WBITS
    has_header = len(body) > 1 and body[0] & 15 == zlib.DEFLATED and int.from_bytes(body[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS


def _broken(coding: bytes, reason: str) -> HttpProblem:
    detail = f"it is not {coding.decode()}, as content-encoding says: {reason}"
    return HttpProblem(400, "The body cannot be decoded", detail)
