"""Tokens of a text, and the keys of its n-grams: the same on every machine, in every process, in any script.

A text is normalized (Unicode NFKC, case folded) and cut into words. Scripts that write no spaces between words have a
token for each character, whose pairs are what words are elsewhere; a symbol such as an emoji is a token, too. There is
no vocabulary: the key of an n-gram is the CRC-32 of its UTF-8 bytes, so that among some 65,000 known n-grams another
one is taken for a known one with a chance of 1 in 65,000.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from itertools import pairwise

import numpy as np

from data.schema.features.feature import MAX_TEXT

# Kana and Han.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SYMBOLS = "\u2600-\u27bf\U0001f300-\U0001faff"
_TOKEN = re.compile(f"[^\\W{_UNSPACED}]+|[{_UNSPACED}{_SYMBOLS}]")


def tokens(text: str) -> list[str]:
    """Return the tokens of a text in order; those of its first `MAX_TEXT` characters."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text[:MAX_TEXT]).casefold())


def gram_keys(words: list[str]) -> np.ndarray:
    """Return the keys of the different tokens, and pairs of neighbours, ascending: uint32 of shape (keys,)."""
    # A string of JSON may hold half of a surrogate pair, which is not to be encoded otherwise.
    encoded = [word.encode("utf-8", "surrogatepass") for word in words]
    found = {zlib.crc32(word) for word in encoded}
    found.update(map(zlib.crc32, map(b" ".join, pairwise(encoded))))
    return np.array(sorted(found), np.uint32)
