"""Generated posts: sentiments that the words tell for the most part."""

from __future__ import annotations

import numpy as np

from tests.support.training.posts import posts_table


def test_posts_are_of_three_sentiments_and_mostly_of_different_texts():
    """Posts of each sentiment have several words, of which most are another post's too; some have no text."""
    table = posts_table()
    texts = table["text"].drop_null().to_pylist()
    counts = table["sentiment"].value_counts().to_pylist()
    assert {each["values"]: each["counts"] > 800 for each in counts} == dict.fromkeys(
        ("negative", "neutral", "positive"), True
    )
    assert len(set(texts)) > 0.85 * len(texts)
    assert 3 < np.mean([len(text.split()) for text in texts]) < 20
    assert 10 < table["text"].null_count < 100
    assert posts_table(4000, 1)["text"] != table["text"]
