"""The coverage report: what a table holds that a model does not know, as lines for the terminal and as a table."""

from __future__ import annotations

from collections.abc import Iterator

from data.schema.features.feature import Feature, FeatureType
from data.validation.model_coverage import ABOVE, BELOW, UNKNOWN, ModelCoverage
from data.validation.validation import Validation

HEADER = ["feature", "trained on", "missing then", "missing now", "below", "above", "unknown words", "what differs"]
"""Titles of the cells that `rows` returns. Below, above and unknown words are counts of rows."""

_EXAMPLES = 3
_LONGEST_WORD = 40


def headline(coverage: ModelCoverage) -> str:
    """Return one sentence: how many rows the model is blind to."""
    blind = len(coverage.blind)
    if not blind:
        return f"against {coverage.model.title}: no row has a word or a number that is new to it"
    found = f"{blind:,} of {coverage.rows:,} rows ({coverage.share(blind)}) have a word or a number that is new to it"
    return f"against {coverage.model.title}: {found}"


def lines(validation: Validation, coverage: ModelCoverage) -> list[str]:
    """Return the report in lines for the terminal: the headline, what differs by feature, what was not compared."""
    differing = [f"  {f.name}: {text}" for f in coverage.features for text in _texts(validation, coverage, f.name)]
    return [headline(coverage), *differing, *(f"  {text}" for text in coverage.notes)]


def rows(validation: Validation, coverage: ModelCoverage) -> list[list[str]]:
    """Return a row of cells for each compared feature, under `HEADER`."""
    return [_row(validation, coverage, feature) for feature in coverage.features]


def _row(validation: Validation, coverage: ModelCoverage, feature: Feature) -> list[str]:
    name = feature.name
    return [
        name,
        _trained_on(coverage, feature),
        _missing_then(coverage, name),
        str(coverage.share(coverage.missing[name])),
        *(f"{_count(coverage, name, spot):,}" for spot in (BELOW, ABOVE, UNKNOWN)),
        "; ".join(_texts(validation, coverage, name)),
    ]


def _count(coverage: ModelCoverage, name: str, spot: str) -> int:
    return coverage.hits[(name, spot)].count if (name, spot) in coverage.hits else 0


def _trained_on(coverage: ModelCoverage, feature: Feature) -> str:
    profile = coverage.profile(feature.name)
    if feature.type is FeatureType.CATEGORY:
        known = len(feature.vocabulary or ()) - (len(profile.unused) if profile else 0)
        return f"{known:,} {'word' if known == 1 else 'words'}"
    if profile is None:
        return "not known"
    if profile.low is None or profile.high is None:
        return "no value"
    return f"{_number(profile.low)} to {_number(profile.high)}"


def _texts(validation: Validation, coverage: ModelCoverage, name: str) -> Iterator[str]:
    """Say what differs in a feature, one text each."""
    details = {UNKNOWN: _examples, BELOW: _lowest, ABOVE: _highest}
    for spot, detail in details.items():
        if count := _count(coverage, name, spot):
            yield f"{spot}: {count:,} rows ({coverage.share(count)}), {detail(validation, coverage, name)}"
    if coverage.missing_differs(name):
        now = coverage.share(coverage.missing[name])
        yield f"missing in {now} of the rows, {_missing_then(coverage, name)} when it was trained"


def _missing_then(coverage: ModelCoverage, name: str) -> str:
    profile = coverage.profile(name)
    return str(coverage.trained_share(profile.missing)) if profile else "not known"


def _examples(validation: Validation, coverage: ModelCoverage, name: str) -> str:
    words = ", ".join(f"'{word:.{_LONGEST_WORD}}'" for word in list(coverage.words[name])[:_EXAMPLES])
    profile = coverage.profile(name)
    then = f"; {coverage.trained_share(profile.unknown)} when it was trained" if profile and profile.unknown else ""
    return f"such as {words}{then}"


def _lowest(validation: Validation, coverage: ModelCoverage, name: str) -> str:
    profile, lowest = coverage.profile(name), validation.columns[name].low
    return _reached("down", lowest, profile.low if profile else None)


def _highest(validation: Validation, coverage: ModelCoverage, name: str) -> str:
    profile, highest = coverage.profile(name), validation.columns[name].high
    return _reached("up", highest, profile.high if profile else None)


def _reached(way: str, value: float | str | None, trained: float | None) -> str:
    if not isinstance(value, float) or trained is None:
        return "infinite"
    # The summary of a column leaves infinities out: one that does not reach beyond what was trained on has them alone.
    beyond = value < trained if way == "down" else value > trained
    return f"{way} to {_number(value) if beyond else 'infinity'}, trained {way} to {_number(trained)}"


def _number(value: float) -> str:
    return f"{value:.7g}"
