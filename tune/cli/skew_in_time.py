"""`--in-time` of `skew` and `promote`: makes the proof in time from the options, and says what was done."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing

import pyarrow as pa

from data.cli.options import events_of
from data.cli.terminal import note, note_all, progress
from data.errors import ConfigError, DataError
from data.feature_views.events.event_tables import EventTables, left_out_lines, open_events, read_events, said_of
from data.feature_views.events.table_mark import holds_stored
from data.schema.use_case import UseCase
from data.settings import Settings, load_settings
from data.sources.filesystems import absolute, named
from data.sources.parquet import open_source, read_source
from data.transform.event_time import NO_TIME, event_us
from data.transform.table_columns import named_column
from tune.dataset.training_table import columns_read, read_labels
from tune.promotion.promotion import Prove
from tune.registry.registry import ResolvedModel
from tune.skew.in_time_comparison import InTimeProof
from tune.skew.in_time_replay import prove_in_time
from tune.skew.in_time_table import InTimeTable
from tune.skew.missing_events import MissingEvents
from tune.skew.row_comparison import SHOWN
from tune.skew.scratch_stores import ScratchStores
from tune.skew.service_client import ServiceClient


def prover(args: argparse.Namespace, url: str | None, use_case: UseCase) -> Prove:
    """Return the function that makes the proof in time by the service at `url`.

    Raises:
        ConfigError: an option is out of range, missing or of another proof, `url` is not a URL, or there is no token.
    """
    settings = load_settings()
    _check(args, url, settings)
    # Opened here for its check of the URL: a wrong one is refused before any model is loaded.
    with closing(ServiceClient(url or "")):
        return _by_replay(args, url or "", use_case, settings)


def disturbances(proof: InTimeProof) -> Iterator[str]:
    """Yield in words what was sent and stored, and the figures of the rows."""
    yield (
        f"{proof.events:,} events stored beside them in shuffled order, {proof.late_events:,} of them late and "
        f"{proof.repeated_events:,} twice; {proof.repeated:,} rows sent again, {proof.disordered:,} out of order"
    )
    if proof.figures is not None:
        metric, by_table, live = proof.figures
        yield f"{metric} of these rows: {by_table:.4f} by the table, {live:.4f} live"


def _check(args: argparse.Namespace, url: str | None, settings: Settings) -> None:
    if url is None:
        raise ConfigError("--in-time: a proof in time needs a running service; name its URL")
    for option in ("log", "stored"):
        if getattr(args, option) is not None:
            raise ConfigError(f"--{option}: not of a proof in time; leave it or --in-time out")
    if args.data is None:
        raise ConfigError("--in-time: name the whole table, with the rows before the holdout, by --data PATH")
    if args.rows is not None and args.rows < 1:
        raise ConfigError(f"--rows {args.rows}: expected 1 or more")
    if settings.events_token is None:
        raise ConfigError("--in-time: set RAYSCORE_EVENTS_TOKEN to the service's, which opens its scratch stores")


def _by_replay(args: argparse.Namespace, url: str, use_case: UseCase, settings: Settings) -> Prove:
    token = settings.events_token.get_secret_value() if settings.events_token else ""

    def make(model: ResolvedModel, holdout: pa.Table) -> InTimeProof:
        bundle = model.bundle
        # First, as another proof that is under way is found by it, before minutes are spent on the table.
        with closing(ScratchStores(settings, use_case, bundle.manifest)) as stores:
            table = _table(args, use_case, model, _begin_us(holdout, use_case))
            labels = read_labels(table.rows, use_case, args.data)
            with (
                closing(ServiceClient(url, model.version, token)) as service,
                progress("skew proof in time", table.count) as advance,
            ):
                proof = prove_in_time(bundle, table, labels, service, stores, advance=advance)
        explained = MissingEvents(table)
        pairs = list(zip(proof.places, proof.mismatches, strict=True))[:SHOWN]
        proof.causes = [line for at, mismatch in pairs for line in explained.explain(at, mismatch)]
        return proof

    return make


def _table(args: argparse.Namespace, use_case: UseCase, model: ResolvedModel, since_us: int) -> InTimeTable:
    source = open_source(absolute(args.data))
    if use_case.joins_stored and holds_stored(source.schema, use_case, named(source.path)):
        raise DataError(
            f"{named(source.path)}: its online features are what the store would have held; name the table with the "
            "rows' own values"
        )
    files = open_events(events_of(args), use_case)
    table = read_source(source, columns_read(use_case, holds_windows=False))
    note_all([*source.report, *said_of(files)])
    events: EventTables = read_events(files, use_case)
    try:
        found = InTimeTable(table, use_case, model.bundle.manifest, events, since_us, args.rows)
    except DataError as exc:
        raise DataError(f"{named(source.path)}: {exc}") from exc
    for line in left_out_lines(found.left_out):
        note(line)
    return found


def _begin_us(holdout: pa.Table, use_case: UseCase) -> int:
    """Return when the version's holdout begins, in microseconds since 1970 UTC."""
    if use_case.event_time is None:
        raise ConfigError(f"use case '{use_case.name}' has no event_time: its rows have no order to be sent in")
    times = event_us(named_column(holdout, use_case.event_time), use_case.event_time)
    return int(times[times != NO_TIME].min(initial=2**62))
