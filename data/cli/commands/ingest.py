"""`rayscore ingest`: the events of a table or of a Kafka topic into the event store."""

from __future__ import annotations

import argparse
import gc
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from data.cli.options import add_use_case, use_case_of
from data.cli.terminal import EXIT_INTERRUPTED, counted, err, note, note_all, progress, say
from data.distributed.pieces import parquet_pieces
from data.distributed.runner import runner
from data.errors import ConfigError
from data.event_store import EventOutcome, EventStore, open_events
from data.ingest import table_backfill
from data.ingest.dead_letters import DeadLetterFile
from data.ingest.event_input import event_inputs, single_input
from data.ingest.event_tally import EventTally
from data.ingest.ingest_metrics import IngestMetrics
from data.ingest.kafka_address import KafkaAddress, kafka_address
from data.ingest.kafka_security import kafka_security
from data.ingest.message_parser import MessageParser
from data.ingest.topic_ingest import Destination, TopicIngest
from data.schema.use_case import UseCase
from data.settings import Settings, load_settings
from data.sources.filesystems import absolute, named
from data.sources.parquet import open_source

if TYPE_CHECKING:
    from data.ingest.kafka_topic import KafkaTopic

_EXAMPLE = (
    "examples: rayscore ingest transactions.parquet\n          rayscore ingest kafka://localhost:9092/transactions"
)
_OF_TOPICS = {"group": "--group", "metrics_port": "--metrics-port", "until_end": "--until-end"}
_CONFLICTS = "keys that repeat with another content"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Store the events of a Parquet table, or of the messages of a Kafka topic (one JSON object each), for window "
        "features. May be killed and repeated at any time: an event that is stored again changes nothing."
    )
    parser.epilog = _EXAMPLE
    parser.add_argument(
        "path", metavar="FILE|FOLDER|kafka://HOST[:PORT]/TOPIC", help="Parquet file or folder, or a topic"
    )
    add_use_case(parser)
    parser.add_argument(
        "--source", metavar="NAME", help="source of events (default: all that are rows of the use case's own table)"
    )
    parser.add_argument("--all", action="store_true", help="also take events that are older than the longest window")
    topics = parser.add_argument_group("topics")
    topics.add_argument("--group", metavar="NAME", help="consumer group (default: rayscore.USE_CASE.SOURCE)")
    topics.add_argument(
        "--until-end", action="store_true", help="end where the topic ends now, instead of waiting for more"
    )
    topics.add_argument("--metrics-port", type=int, metavar="PORT", help="answer Prometheus at this port")


def run(args: argparse.Namespace) -> int:
    """Store the events, print what became of every row or message, and return the exit code.

    Raises:
        ConfigError: the use case has no such source, or an option does not fit.
        DataError: the table cannot be read, or lacks a column; or there is no such topic.
        StoreUnavailable: the store does not take the events.
    """
    address = kafka_address(args.path)
    if address is not None:
        return _ingest_topic(args, address)
    given = next((option for name, option in _OF_TOPICS.items() if getattr(args, name)), None)
    if given:
        raise ConfigError(f"{given} belongs to a topic (kafka://HOST[:PORT]/TOPIC), and {args.path} is a path")
    return _ingest_table(args, Path(args.path))


def report(path: str, noun: tuple[str, str], tallies: Mapping[str, EventTally]) -> None:
    """Print what became of every row or message: what came to the store on stdout, what was left out on stderr.

    Args:
        path: what was read, in words.
        noun: what was read, one and many: ("row", "rows").
        tallies: the counts by source.
    """
    say(f"{path}: {counted(max((each.read for each in tallies.values()), default=0), *noun)} read")
    for name, tally in tallies.items():
        _report_source(name, tally, noun)


def _report_source(name: str, tally: EventTally, noun: tuple[str, str]) -> None:
    counts = tally.outcomes
    taken = counted(counts[EventOutcome.TAKEN], "event", "events")
    others = ", ".join(
        f"{counts[each]:,} {each.name.lower()}"
        for each in (EventOutcome.REPEATED, EventOutcome.REVISED, EventOutcome.SUPERSEDED)
    )
    conflicts = counts[EventOutcome.CONFLICT]
    say(f"{name}: {taken} taken, {others}, {counted(conflicts, 'conflict', 'conflicts')}")
    if conflicts:
        keys = ", ".join(map(repr, tally.conflicting))
        _warn(f"not stored of {name}: {conflicts:,} {_CONFLICTS} ({keys}{', ...' if conflicts > 3 else ''})")
    for reason, rows in tally.left_out.items():
        names = f" ({', '.join(rows.names)}{', ...' if rows.count > len(rows.names) else ''})" if rows.names else ""
        _warn(f"left out of {name}: {counted(rows.count, *noun)} {reason}{names}")
    if tally.under_way:
        _warn(f"{name}: of {counted(tally.under_way, 'event', 'events')} under way some may be stored: ingest again")
    for entity, count in tally.without.items():
        _warn(f"{name}: {counted(count, 'event', 'events')} without {entity}, in no window of it")


def _warn(text: str) -> None:
    err.print(text, markup=False, style="yellow")


def _ingest_table(args: argparse.Namespace, path: Path) -> int:
    use_case, now_us = use_case_of(args), time.time_ns() // 1000
    inputs = event_inputs(use_case, args.source, all_times=args.all)
    source = open_source(absolute(path))
    columns = list(dict.fromkeys(name for each in inputs for name in each.columns))
    pieces = parquet_pieces(source, columns)
    tallies: dict[str, EventTally] = {}
    try:
        with (
            closing(_open_store(use_case, keep_all=args.all)) as store,
            runner(pieces) as run_steps,
            progress("ingest", source.rows * len(inputs), "events") as advance,
            _no_collection(),
        ):
            blocks = run_steps(pieces, table_backfill.reader(source, inputs, now_us), in_order=True)
            table_backfill.backfill(blocks, store, advance, tallies)
    finally:
        # What was stored before an error or Ctrl-C stays, and is counted.
        if tallies:
            report(named(path), ("row", "rows"), tallies)
    note_all(source.report)
    return 0


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage: events make no reference cycles, and to look for some takes a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _ingest_topic(args: argparse.Namespace, address: KafkaAddress) -> int:
    use_case, settings = use_case_of(args), load_settings()
    wanted = single_input(use_case, args.source, all_times=args.all)
    topic = _open_topic(address, args.group or f"rayscore.{use_case.name}.{wanted.name}", settings)
    metrics = IngestMetrics(wanted.name, address.topic)
    if args.metrics_port is not None:
        metrics.serve(args.metrics_port, settings.http_host)
    letters = DeadLetterFile(settings.var_dir / "ingest" / f"{address.topic}.jsonl")
    with (
        closing(letters),
        closing(_open_store(use_case, keep_all=args.all)) as store,
        _stop_after_batch() as stopped,
        closing(topic),
    ):
        to = Destination(wanted.name, store, letters)
        ingest = TopicIngest(topic, MessageParser(wanted), to, metrics, note, stopped)
        try:
            with progress("ingest", None, "messages") as advance:
                ingest.run(advance, until_end=args.until_end)
        except BaseException:
            # What was stored before an error stays, and is counted.
            if ingest.tally.read:
                report(str(address), ("message", "messages"), {wanted.name: ingest.tally})
            raise
        interrupted = stopped()
    report(str(address), ("message", "messages"), {wanted.name: ingest.tally})
    return EXIT_INTERRUPTED if interrupted else 0


def _open_store(use_case: UseCase, *, keep_all: bool) -> EventStore:
    reach_us = None if keep_all else max((each.reach_us for each in use_case.windows), default=None)
    return open_events(load_settings(), use_case.name, use_case.events, keep_us=reach_us, create=True)


def _open_topic(address: KafkaAddress, group: str, settings: Settings) -> KafkaTopic:
    """Open a topic; raises ConfigError for wrong settings, and where the driver, which is optional, is missing."""
    try:
        from data.ingest.kafka_topic import KafkaTopic
    except ImportError as exc:
        raise ConfigError(f"{address}: needs Kafka's client; install it with: pip install 'rayscore[kafka]'") from exc
    return KafkaTopic(address, group, note, kafka_security(settings))


@contextmanager
def _stop_after_batch() -> Iterator[Callable[[], bool]]:
    """Yield what says whether Ctrl-C or SIGTERM came. The first ends after the batch, the next one at once."""
    asked: list[int] = []
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        asked.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for each in before:
        signal.signal(each, ask)
    try:
        yield lambda: bool(asked)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
