"""`rayscore late`: logged decisions that would have been others, had all events of their windows been there."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from rich.table import Table

from data.cli.options import add_use_case, positive
from data.cli.terminal import counted, err, note, progress, say, say_json, show_table
from data.event_store import events_max_age_us, open_events
from data.feature_views.events.event import shown_key
from data.prediction_log.file_summary import FileSummary, read_each, summaries
from data.prediction_log.files import LogFile
from data.schema.use_case import load_use_case
from data.settings import Settings, load_settings
from data.transform.time_values import EXPECTED, time_us
from ray_app.late_events.decision_table import write_decisions
from ray_app.late_events.log_review import LogReview, ReviewTally
from ray_app.late_events.missing_events import MissingEvents, missing_events
from ray_app.late_events.version_replay import LateDecision, VersionReplay
from tune.registry.registry import Registry

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Make the decisions of the prediction log again, each as of its time, of the events that the store holds now; "
        "list those that would be others. Features that are no windows keep what was logged."
    )
    parser.epilog = "example: rayscore late --since 2026-11-28T06:00:00Z --rows 3"
    add = parser.add_argument
    add("folder", type=Path, nargs="?", help="folder of the log (default: that of the settings)")
    add("--since", type=moment, metavar="TIME", help="only rows answered at this time or later, in ISO 8601")
    add("--until", type=moment, metavar="TIME", help="only rows answered before this time")
    add("--entity", help="only rows of this entity, as it is written in the log")
    add("--version", help="only rows of this version of the model")
    add("--rows", type=positive, default=10, metavar="N", help="rows to show (default %(default)s), other labels first")
    add("--json", action="store_true", help="print one JSON object a row, with both vectors")
    add("--out", type=Path, help="write all such rows as one Parquet file, with both vectors")
    add_use_case(parser)


def moment(text: str) -> datetime:
    """Return a time that is typed, in UTC, as argparse's `type` does."""
    microseconds = time_us(text)
    if microseconds is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not {EXPECTED}")
    return _at(microseconds)


def run(args: argparse.Namespace) -> int:
    """Show or write the decisions that would be others, with the counts of all; exit code 0 with or without any.

    Raises:
        DataError: there is no log, or a file of it is broken, or the output cannot be written.
        StoreUnavailable: there is no event store, or it does not answer.
        RegistryUnavailable: the registry does not answer.
    """
    settings = load_settings(use_case=args.use_case)
    files = [each for each in summaries(args.folder or settings.prediction_log_path) if _reaches(each, args.since)]
    with ExitStack() as opened, progress("late", sum(each.rows for each in files)) as advance:
        review = LogReview(_opener(settings, opened))
        late = review.late(_chosen(files, args, advance), advance)
        shown = ShownDecisions(args.rows)
        if args.out:
            write_decisions(shown.keep(late), args.out)
        else:
            deque(shown.keep(late), maxlen=0)
    _report(review.tally, note if args.json else say)
    if cut := sum(not each.whole for each in files):
        note(f"{counted(cut, 'file', 'files')} of the log still open or cut short by a crash")
    if args.out:
        found = f"{review.tally.vectors:,} rows written to {args.out}"
        note(found if review.tally.vectors else f"no such row: {args.out} is not written")
    for late in shown.first:
        if args.json:
            say_json(_plain(late))
        else:
            _show(late)
    return 0


class ShownDecisions:
    """The first decisions to show: those with another label before those that only have another vector.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._turned: list[LateDecision] = []
        self._others: list[LateDecision] = []

    def keep(self, decisions: Iterable[LateDecision]) -> Iterator[LateDecision]:
        """Pass decisions on, and keep the first of them."""
        for late in decisions:
            kept = self._turned if late.other_label else self._others
            if len(kept) < self._most:
                kept.append(late)
            yield late

    @property
    def first(self) -> list[LateDecision]:
        """The decisions to show."""
        return [*self._turned, *self._others][: self._most]


def _opener(settings: Settings, opened: ExitStack) -> Callable[[str], VersionReplay | None]:
    """Return what opens a version by its number, with the event store that its windows read."""
    name = load_use_case(settings.use_case).name
    registry = Registry(settings.tracking_uri, settings.artifact_dir)

    def open_version(version: str) -> VersionReplay | None:
        bundle = registry.resolve(name, version).bundle
        manifest = bundle.manifest
        if not manifest.windows:
            return None
        keep_us = max(window.reach_us for window in manifest.windows)
        store = opened.enter_context(closing(open_events(settings, name, manifest.events, keep_us=keep_us)))
        return VersionReplay(bundle, store, events_max_age_us(settings, keep_us))

    return open_version


def _reaches(file: FileSummary, since: datetime | None) -> bool:
    return since is None or (file.latest is not None and file.latest >= since)


def _chosen(
    files: Sequence[FileSummary], args: argparse.Namespace, advance: Callable[[int], None]
) -> Iterator[LogFile]:
    """Yield the files with the rows that the options choose; those that they do not are done."""
    for file in read_each(files):
        table = file.table
        if args.since is not None:
            table = table.filter(pc.field("answered_at") >= args.since)
        if args.until is not None:
            table = table.filter(pc.field("answered_at") < args.until)
        for name in ("entity", "version"):
            if getattr(args, name) is not None:
                table = table.filter(pc.field(name) == getattr(args, name))
        advance(file.table.num_rows - table.num_rows)
        yield file._replace(table=table)


def _report(tally: ReviewTally, tell: Callable[[str], None]) -> None:
    tell(
        f"{counted(tally.looked_at, 'decision', 'decisions')} looked at; with the events of now another window in "
        f"{tally.windows:,}, another vector in {tally.vectors:,}, another score in {tally.scores:,}, another label in "
        f"{tally.labels:,}"
    )
    if tally.dropped:
        _warn(f"{counted(tally.dropped, 'window', 'windows')} not looked at: the store has dropped events of them")
    for reason, rows in sorted(tally.left_out.items()):
        _warn(f"left out: {counted(rows, 'row', 'rows')} {reason}")


def _show(late: LateDecision) -> None:
    logged = late.logged
    key = f" ({late.manifest.key} {shown_key(late.query.key)})" if late.manifest.key is not None else ""
    output = late.manifest.output
    labels = f"; label {output.named(logged.code)}, now {output.named(late.code)}" if output.labels else ""
    say(
        f"\nrequest {logged.request_id}{key} of {_text(_at(logged.time_us))} by version {logged.version}: "
        f"score {output.score(logged.scores):.6f}, now {output.score(late.scores):.6f}{labels}"
    )
    vectors = dict(zip(late.manifest.schema_.names, zip(logged.vector, late.vector.tolist(), strict=True), strict=True))
    table = Table("feature", "logged", "now", "in the vector", "now", box=None)
    for each in late.changed:
        codes = (f"{code:.7g}" for code in vectors[each.name])
        table.add_row(each.name, _value(each.logged), _value(each.present), *codes)
    show_table(table)
    for missing in missing_events(late):
        say(f" {_missing(missing)}")


def _missing(missing: MissingEvents) -> str:
    where = f"'{missing.source}' of {missing.entity} {missing.entity_key}"
    if missing.keys:
        noun = "event" if len(missing.keys) == 1 else "events"
        return f"not there then: {noun} {', '.join(map(str, missing.keys))} of {where}"
    if missing.number:
        return f"not there then: {counted(missing.number, 'event', 'events')} of {where}; which, the values do not say"
    return f"not there then: events of {where}, not one after another; or one was replaced by a later content"


def _plain(late: LateDecision) -> dict[str, Any]:
    logged, names, output = late.logged, late.manifest.schema_.names, late.manifest.output
    missing = [
        {
            "source": each.source,
            "entity": each.entity,
            "entity_key": each.entity_key,
            "keys": each.keys,
            "events": each.number or None,
        }
        for each in missing_events(late)
    ]
    return {
        "request_id": logged.request_id,
        "key": shown_key(late.query.key),
        "version": logged.version,
        "answered_at": _text(logged.answered_at),
        "time": _text(_at(logged.time_us)),
        "logged": {
            **output.fields(logged.scores),
            "vector": dict(zip(names, logged.vector, strict=True)),
        },
        "now": {
            **output.fields(late.scores),
            "vector": dict(zip(names, late.vector.tolist(), strict=True)),
        },
        "changed": {each.name: {"logged": each.logged, "now": each.present} for each in late.changed},
        "missing": missing,
    }


def _at(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _text(time: datetime) -> str:
    return time.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _warn(text: str) -> None:
    err.print(text, markup=False, style="yellow")
