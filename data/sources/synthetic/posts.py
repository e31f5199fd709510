"""Generated posts about products, for the use case `post_sentiment`: is a customer pleased, displeased or neither?

A post is put together from phrases. Some say the opposite of their words ("not good"), so that pairs of words count;
some are of another mood than the post, and some posts were labelled by mistake. A few are a picture without text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product

import numpy as np
import pyarrow as pa

from data.sources.synthetic.draws import (
    Columns,
    ascending_times,
    class_counts,
    class_shares,
    hour_share,
    joined,
    named,
    numbered,
    timestamps,
    words,
)
from data.sources.synthetic.plan import GenerationPlan

_STREAM = 4
"""Sets the draws apart from those of other tables of the same seed."""
_HOUR_SHARE = hour_share([3, 2, 1, 1, 1, 2, 4, 7, 9, 10, 11, 12, 13, 12, 11, 11, 12, 13, 14, 16, 17, 15, 10, 6])
MOODS = ("negative", "neutral", "positive")
_MOOD_MIX = np.cumsum([0.28, 0.34, 0.38])
_CHANNELS = ("app", "forum", "shop", "social")
_CHANNEL_MIX = np.cumsum([[0.3, 0.3, 0.15, 0.25], [0.2, 0.4, 0.2, 0.2], [0.25, 0.15, 0.35, 0.25]], 1)
"""Of each mood the share of the channels that come before."""
_REPLIES = np.array([2.4, 1.6, 1.0])
_PICTURE = np.array([0.12, 0.15, 0.3])
"""Share of the posts of each mood that have a picture."""
_DAYS_OWNED = np.array([12.0, 4.0, 45.0])
_OWNS = 0.7
_NO_TEXT = 0.01
_OTHER_PHRASE = 0.1
_SECOND_PHRASE = 0.5
_MISLABELLED = 0.09

_THINGS = (
    "headphones",
    "kettle",
    "backpack",
    "lamp",
    "bike light",
    "charger",
    "coffee grinder",
    "desk",
    "jacket",
    "tent",
)
_THING_WORDS = [f"{own} {thing}" for own, thing in product(("the", "this", "my new", "their"), _THINGS)]
_GOOD = ("good", "great", "lovely", "excellent", "sturdy", "reliable", "fast", "comfortable", "quiet", "handy")
_BAD = ("bad", "awful", "flimsy", "terrible", "noisy", "useless", "slow", "uncomfortable", "faulty", "ugly")
_VERY = ("really ", "very ", "so ", "", "", "surprisingly ")
_PHRASES = (
    [
        *(f"is {very}{word}" for very, word in product(_VERY, _BAD)),
        *(f"is not {word} at all" for word in _GOOD),
        *(f"broke after {span}" for span in ("a day", "two weeks", "one month", "the first use")),
        "is a waste of money",
        "went straight back to the shop",
        "never worked",
        "does not do what it promises",
    ],
    [
        *(f"came on {day}" for day in ("Monday", "Tuesday", "Friday", "Saturday")),
        *(f"is for my {who}" for who in ("brother", "office", "daughter", "neighbour", "trip")),
        *(f"costs {price} euros now" for price in (20, 35, 49, 80, 120)),
        *(f"comes in {colour}" for colour in ("black", "green", "blue", "red")),
        "has the same plug as the old one",
        "is neither good nor bad",
        "weighs about a kilo",
        "does anybody know the size",
        "needs two batteries",
    ],
    [
        *(f"is {very}{word}" for very, word in product(_VERY, _GOOD)),
        *(f"is not {word} at all" for word in _BAD),
        *(f"still works after {span}" for span in ("a year", "two winters", "many trips", "all that rain")),
        "is worth every cent",
        "does exactly what it should",
        "made my day",
        "never let me down",
    ],
)
_STARTS = ("", "", "so ", "well, ", "update: ", "honestly ", "ok, ", "hi all, ")
_ENDS = ("", "", ".", "!", " :)", " thanks", ", just saying", " \U0001f44d", " \U0001f44e", "...")
_END_MIX = np.cumsum(
    [
        [0.25, 0.15, 0.2, 0.12, 0.02, 0.04, 0.08, 0.02, 0.05, 0.07],
        [0.25, 0.15, 0.25, 0.05, 0.04, 0.12, 0.06, 0.02, 0.01, 0.05],
        [0.2, 0.12, 0.15, 0.2, 0.1, 0.08, 0.04, 0.07, 0.01, 0.03],
    ],
    1,
)

SCHEMA = pa.schema(
    [
        ("post_id", pa.int64()),
        ("author_id", pa.string()),
        ("posted_at", pa.timestamp("us")),
        ("channel", pa.string()),
        ("text", pa.string()),
        ("picture", pa.bool_()),
        ("replies_1h", pa.int64()),
        ("days_owned", pa.float64()),
        ("sentiment", pa.string()),
    ]
)
"""Columns of the generated table."""


def tally(rows: pa.Table) -> Counter[str]:
    """Return the number of posts by sentiment."""
    return class_counts(rows.column("sentiment"))


def outcome(counts: Counter[str], rows: int) -> str:
    """Return the share of each sentiment in words."""
    return class_shares(counts, rows, MOODS)


def table(plan: GenerationPlan, first: int, last: int) -> pa.Table:
    """Return the rows of the blocks from `first` up to `last` (exclusive), in time order."""
    columns = joined(first, last, lambda block: _block(plan, block))
    arrays: dict[str, pa.Array] = {name: pa.array(values) for name, values in columns.items()}
    arrays["post_id"] = pa.array(numbered(first, len(columns["sentiment"])))
    arrays["posted_at"] = timestamps(plan, columns["time_ms"])
    arrays["author_id"] = named("author", columns["author_id"])
    arrays["text"] = pa.array(columns["text"], pa.string())
    arrays["days_owned"] = pa.array(columns["days_owned"], from_pandas=True)
    for name, names in (("channel", _CHANNELS), ("sentiment", MOODS)):
        arrays[name] = words(columns[name], names)
    return pa.table([arrays[name] for name in SCHEMA.names], schema=SCHEMA)


def _block(plan: GenerationPlan, block: int) -> Columns:
    rng = np.random.default_rng([plan.seed, block, _STREAM])
    _, time_ms = ascending_times(rng, plan, block, _HOUR_SHARE)
    count = len(time_ms)
    author = (plan.entities * rng.random(count) ** 1.4).astype(np.int64)
    mood = np.searchsorted(_MOOD_MIX[:-1], rng.random(count), "right")
    mislabelled = rng.random(count) < _MISLABELLED
    return {
        "time_ms": time_ms,
        "author_id": author,
        "channel": _mixed(rng, _CHANNEL_MIX[mood]),
        "text": _texts(rng, mood),
        "picture": rng.random(count) < _PICTURE[mood],
        "replies_1h": rng.poisson(_REPLIES[mood]),
        "days_owned": np.where(rng.random(count) < _OWNS, np.round(rng.exponential(_DAYS_OWNED[mood]), 1), np.nan),
        "sentiment": np.where(mislabelled, rng.integers(0, len(MOODS), count), mood),
    }


def _texts(rng: np.random.Generator, mood: np.ndarray) -> np.ndarray:
    """Return a text for each mood, object of shape (n,); None for a picture without text."""
    first, second = _phrases(rng, mood), _phrases(rng, mood)
    also = np.where(rng.random(len(mood)) < _SECOND_PHRASE, np.char.add(" and ", second), "")
    ends = np.array(_ENDS)[_mixed(rng, _END_MIX[mood])]
    parts = [
        _any_of(rng, _STARTS, len(mood)),
        _any_of(rng, _THING_WORDS, len(mood)),
        np.char.add(" ", first),
        also,
        ends,
    ]
    texts = parts[0]
    for part in parts[1:]:
        texts = np.char.add(texts, part)
    found = texts.astype(object)
    found[rng.random(len(mood)) < _NO_TEXT] = None
    return found


def _phrases(rng: np.random.Generator, mood: np.ndarray) -> np.ndarray:
    said = np.where(rng.random(len(mood)) < _OTHER_PHRASE, rng.integers(0, len(MOODS), len(mood)), mood)
    each = [_any_of(rng, phrases, len(mood)) for phrases in _PHRASES]
    return np.array(each)[said, np.arange(len(mood))]


def _any_of(rng: np.random.Generator, texts: Sequence[str], count: int) -> np.ndarray:
    return np.array(texts)[rng.integers(0, len(texts), count)]


def _mixed(rng: np.random.Generator, mix: np.ndarray) -> np.ndarray:
    """Draw a position for each row by the cumulated shares of all, shape (n, positions)."""
    return (rng.random(len(mix))[:, np.newaxis] >= mix[:, :-1]).sum(axis=1)
