"""Bytes of a CSV file to UTF-8: compression and encoding, told by the first bytes; what is no CSV is named."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from data.errors import DataError

_HEAD_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20

_COMPRESSED = (
    (re.compile(rb"\x1f\x8b"), "gzip"),
    (re.compile(rb"BZh[1-9]1AY&SY"), "bz2"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "zstd"),
    (re.compile(rb"\x04\x22\x4d\x18"), "lz4"),
)

_FOREIGN = (
    (re.compile(rb"PK\x03\x04.*(?:xl/|\[Content_Types\])", re.DOTALL), "an Excel workbook; save its sheet as CSV"),
    (re.compile(rb"\xd0\xcf\x11\xe0"), "an Excel workbook; save its sheet as CSV"),
    (re.compile(rb"PK[\x03\x05]"), "a zip archive; unpack it"),
    (re.compile(rb"\xfd7zXZ\0"), "compressed by xz; unpack it: xz -d"),
    (re.compile(rb"7z\xbc\xaf"), "a 7-Zip archive; unpack it"),
    (re.compile(rb".{257}ustar", re.DOTALL), "a tar archive; unpack it"),
    (re.compile(rb"\x1f\x8b|BZh[1-9]1AY&SY|\x28\xb5\x2f\xfd"), "compressed twice; unpack it once"),
    # Followed by bytes that no text has: a column may well be named PAR1.
    (re.compile(rb"PAR1.*[\0-\x08]", re.DOTALL), "Parquet already; it needs no conversion"),
    (re.compile(rb"ARROW1\0|FEA1.*[\0-\x08]", re.DOTALL), "an Arrow (Feather) file; write it as Parquet or CSV"),
    (re.compile(rb"ORC.*[\0-\x08]|Obj\x01|SQLite format 3\0", re.DOTALL), "a file of another kind; export it as CSV"),
    (re.compile(rb"%PDF-"), "a PDF document; export the table as CSV"),
    (re.compile(rb"\s*<(?:!doctype|html|\?xml|!--)", re.IGNORECASE), "a web page or XML; get the file itself"),
    (re.compile(rb"\s*[\[{]\s*[\"{\[]"), "JSON; write it as CSV"),
)

_MARKS = (
    # Before UTF-16, whose mark is the beginning of this one.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8"),
)


@dataclass(frozen=True)
class Coding:
    """How a file's bytes become text: by which codec they are decompressed (None: not at all), then decoded."""

    compression: str | None
    encoding: str


@dataclass(frozen=True)
class Head:
    """The beginning of a file as text, without a byte-order mark; `whole` when there is no more."""

    text: str
    whole: bool


def parse_encoding(name: str) -> str:
    """Return the codec's own name for an encoding; raises DataError when Python knows no such text encoding."""
    try:
        codec = codecs.lookup(name)
        # Fails for a codec of bytes to bytes, such as base64.
        b"a".decode(codec.name, "replace")
    except (LookupError, ValueError) as exc:
        raise DataError(f"--encoding {name}: not known; such as utf-8, cp1252, latin-1, utf-16, shift_jis") from exc
    return "utf-8" if codec.name == "utf-8-sig" else codec.name


def recognise_coding(file: Path, given: str | None) -> tuple[Coding, Head]:
    """Tell compression and encoding by the first bytes, and return the first MiB as text.

    Raises:
        DataError: the file is empty, no CSV, damaged, or not in the encoding given (UTF-8 when none is).
        OSError: it cannot be read.
    """
    with pa.OSFile(str(file)) as raw:
        start = raw.read(16)
    compression = next((name for magic, name in _COMPRESSED if magic.match(start)), None)
    with _decompressed(file, compression) as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        raise DataError(f"{file}: the file is empty; write it again")
    encoding = given or _marked(head) or _unmarked(head)
    if encoding is None:
        raise DataError(f"{file}: is {_foreign(head)}")
    coding = Coding(compression, encoding)
    whole = len(head) < _HEAD_BYTES
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head, whole)
    except UnicodeDecodeError:
        if encoding == "utf-8" and b"\0" in head:
            raise DataError(f"{file}: is {_foreign(head)}") from None
        raise undecodable(file, coding) from None
    return coding, Head(text.removeprefix("\ufeff"), whole)


def open_utf8(file: Path, coding: Coding) -> pa.NativeFile:
    """Open a file as a stream of UTF-8; reading raises OSError for damaged and UnicodeDecodeError for other text."""
    stream = _decompressed(file, coding.compression)
    # The CSV reader checks UTF-8 by itself.
    return stream if coding.encoding == "utf-8" else pa.transcoding_input_stream(stream, coding.encoding, "utf-8")


def undecodable(file: Path, coding: Coding) -> DataError:
    """Return the error that names the first line which is not in the encoding, and what to do."""
    decoder = codecs.getincrementaldecoder(coding.encoding)()
    text = ""
    line = 1
    with _decompressed(file, coding.compression) as stream:
        while True:
            chunk = stream.read(_CHUNK_BYTES)
            try:
                text = decoder.decode(chunk, not chunk)
            except UnicodeDecodeError as exc:
                before = exc.object[: exc.start].decode(coding.encoding, "ignore")
                return DataError(f"{file}, line {line + _line_ends(before)}: {_advice(exc, coding.encoding, before)}")
            if not chunk:
                return DataError(f"{file}: is not {coding.encoding}; name its encoding: --encoding")
            line += _line_ends(text)


def _decompressed(file: Path, compression: str | None) -> pa.NativeFile:
    raw = pa.OSFile(str(file))
    return pa.CompressedInputStream(raw, compression) if compression else raw


def _marked(head: bytes) -> str | None:
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def _unmarked(head: bytes) -> str | None:
    """Return the encoding of a text without a mark, or None for what is no text."""
    if any(magic.match(head) for magic, _ in _FOREIGN):
        return None
    sample = head[:4096]
    few, many = len(sample) // 20, len(sample) // 4
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if odd > many and even <= few:
        return "utf-16-le"
    if even > many and odd <= few:
        return "utf-16-be"
    if sample.count(b"\0") > 1:
        # Few of the letters of other scripts have a NUL, but every line end has one, and on one side alone.
        little, big = (_whole_line_ends(sample, encoding) for encoding in ("utf-16-le", "utf-16-be"))
        if little != big:
            return "utf-16-le" if little else "utf-16-be"
    # A stray NUL may be a value; many are no text.
    return None if even + odd > len(sample) // 10 else "utf-8"


def _whole_line_ends(sample: bytes, encoding: str) -> bool:
    """Tell whether there is a line end in UTF-16, and each byte of one belongs to one."""
    end = "\n".encode(encoding)
    at = [match.start() for match in re.finditer(re.escape(end), sample) if match.start() % 2 == 0]
    return bool(at) and len(at) == sample.count(b"\n")


def _foreign(head: bytes) -> str:
    return next((what for magic, what in _FOREIGN if magic.match(head)), "not text; export the table as CSV")


def _line_ends(text: str) -> int:
    return len(re.findall(r"\r\n|\r|\n", text))


def _advice(exc: UnicodeDecodeError, encoding: str, before: str) -> str:
    wrong = f"byte 0x{exc.object[exc.start]:02X} is not {encoding.upper()}"
    if encoding != "utf-8":
        return f"{wrong}; mend the line, or give another --encoding"
    if not before.isascii():
        return f"{wrong}, but the text before it is; mend the line"
    if _is_western(exc.object):
        return f"{wrong}; it looks like Latin-1 / Windows-1252: give --encoding cp1252"
    return f"{wrong}; give its encoding, such as --encoding cp1251, shift_jis or gb18030"


def _is_western(data: bytes) -> bool:
    """Accented letters stand alone among plain ones; other scripts have words without a plain letter."""
    runs = re.findall(rb"[\x80-\xff]+", data)
    return sum(len(run) > 2 for run in runs) <= len(runs) // 10
