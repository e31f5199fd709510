"""The text model: a linear model of the words and word pairs of a text, whose scores the trees see as features.

A margin is the sum of the weights of the known n-grams that a text has, divided by the fourth root of their number,
plus a constant; that is half way between a sum, which grows with the text, and the cosine's square root. Beside each
margin stands the part of the sum that is above 0, so that trees can tell a text that says both from one that says
nothing; and there is the number of words.

Sums are exact (Shewchuk 1997, as `math.fsum`) and roots are those of IEEE 754, so that the order of rows, batches and
machines cannot change a bit.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from data.errors import BundleError
from data.schema.features.feature_schema import FeatureSchema
from data.transform.text_tokens import gram_keys, tokens

_ARRAYS = ("keys", "weights", "constants")


class TextModel:
    """A fitted text model. Equal models have equal digests; it can be pickled.

    Args:
        keys: of the known n-grams, ascending, uint32 of shape (m,).
        weights: float32 of shape (m, k).
        constants: float32 of shape (k,).
    """

    def __init__(self, keys: np.ndarray, weights: np.ndarray, constants: np.ndarray) -> None:
        self.keys = np.ascontiguousarray(keys, np.uint32)
        self.weights = np.ascontiguousarray(weights, np.float32)
        self.constants = np.ascontiguousarray(constants, np.float32)
        self._added: list[float] = self.constants.tolist()
        held = b"".join(np.array(each.shape, "<i8").tobytes() + each.tobytes() for each in self.arrays.values())
        self.digest = hashlib.sha256(held).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextModel) and self.digest == other.digest

    def __hash__(self) -> int:
        return int(self.digest, 16)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that it is made of, by name."""
        return dict(zip(_ARRAYS, (self.keys, self.weights, self.constants), strict=True))

    @property
    def width(self) -> int:
        """Number of scores: k margins, k positive parts, and the number of words."""
        return 2 * len(self.constants) + 1

    def scores(self, text: str) -> tuple[float, ...]:
        """Return the scores of a text, each a float32; the margins of one without known words are the constants."""
        words = tokens(text)
        weights = self._weights(gram_keys(words))
        scale = gram_scale(len(weights))
        by_margin: list[list[float]] = weights.T.tolist()
        margins = [math.fsum(own) * scale + constant for own, constant in zip(by_margin, self._added, strict=True)]
        above = [math.fsum(weight for weight in own if weight > 0) * scale for own in by_margin]
        return *np.array([*margins, *above], np.float32).tolist(), float(len(words))

    def _weights(self, grams: np.ndarray) -> np.ndarray:
        """Return the weights of the known ones among n-grams, float32 of shape (known, k)."""
        if not len(self.keys):
            return self.weights
        at = np.minimum(np.searchsorted(self.keys, grams), len(self.keys) - 1)
        return self.weights[at[self.keys[at] == grams]]


def gram_scale(known: int) -> float:
    """Return what the weights of so many known n-grams of one text are multiplied by."""
    return 1.0 / math.sqrt(math.sqrt(max(known, 1)))


def pack_models(models: Mapping[str, TextModel]) -> bytes:
    """Return the models of text columns, by column, as one file in NumPy's format `.npz`; equal ones give equal bytes.

    `unpack_models` reads them.
    """
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {"columns": np.array(list(models), np.str_)}
    arrays |= {f"{at}.{name}": each for at, model in enumerate(models.values()) for name, each in model.arrays.items()}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def pack_text_scorers(schema: FeatureSchema) -> bytes:
    """Return the models of a schema's texts by `pack_models`; nothing where it has no text."""
    models = {feature.inputs[0]: feature.scorer for feature in schema.scores}
    return (
        pack_models({name: model for name, model in models.items() if isinstance(model, TextModel)}) if models else b""
    )


def unpack_models(packed: bytes) -> dict[str, TextModel]:
    """Return the models that `pack_models` packed; nothing in a file is run.

    Raises:
        BundleError: the bytes are not such a file.
    """
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as file:
            return {
                str(column): TextModel(*(file[f"{at}.{name}"] for name in _ARRAYS))
                for at, column in enumerate(file["columns"])
            }
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as exc:
        raise BundleError(f"not a file of text models: {exc}") from exc
