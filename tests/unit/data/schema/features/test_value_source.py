"""Where values come from: words for people and programs, letters for the log."""

from __future__ import annotations

import json

from data.prediction_log.files import sources
from data.schema.features.value_source import ValueSource


def test_words_and_letters_are_those_of_files_and_answers():
    """The prediction log's letters and the answers' words are a file format and an interface: they do not change."""
    assert [(source.letter, f"{source}", json.dumps(source)) for source in ValueSource] == [
        ("r", "request", '"request"'),
        ("o", "online", '"online"'),
        ("d", "default", '"default"'),
        ("e", "events", '"events"'),
        ("c", "computed", '"computed"'),
    ]
    assert sources("dorec") == ["default", "online", "request", "events", "computed"]
