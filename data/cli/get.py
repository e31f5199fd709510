"""`rayscore get`: the online row of one entity."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from contextlib import closing
from datetime import datetime, timezone

from data.cli.options import add_use_case, use_case_of
from data.cli.terminal import EXIT_REFUSED, err, say
from data.online_store import materialization, open_store
from data.online_store.row_codec import OnlineRow, RowCodec
from data.schema.duration import format_duration
from data.settings import load_settings

_EXAMPLE = "example: rayscore get user_17"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Show what the online store holds of one entity. Exit code 1: no row."
    parser.epilog = _EXAMPLE
    parser.add_argument("entity", help="the entity's key, e.g. user_17")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_use_case(parser)


def run(args: argparse.Namespace) -> int:
    """Show the row and return the exit code.

    Raises:
        ConfigError: the use case has no online features, or no such use case is there.
        StoreUnavailable: the store does not answer.
    """
    use_case, settings = use_case_of(args), load_settings()
    materialization.online_columns(use_case)
    ttl = use_case.entity.ttl_seconds if use_case.entity else None
    codec = RowCodec(use_case.schema_)
    with closing(open_store(settings, use_case.view, ttl)) as store:
        payload = asyncio.run(store.get_many([args.entity]))[0]
    row = codec.unpack(payload) if payload is not None else None
    if row is None:
        err.print(f"no row for '{args.entity}' in view {use_case.view} of the {settings.store} store", markup=False)
        return EXIT_REFUSED
    _show(args, codec, row, ttl)
    return 0


def _show(args: argparse.Namespace, codec: RowCodec, row: OnlineRow, ttl: int | None) -> None:
    age = time.time() - row.event_us / 1e6
    values = dict(zip(codec.names, row.values, strict=True))
    event_time = datetime.fromtimestamp(row.event_us / 1e6, timezone.utc).isoformat()
    expired = ttl is not None and age > ttl
    if args.json:
        shown = {"entity": args.entity, "event_time": event_time, "age_seconds": round(age, 3), "expired": expired}
        say(json.dumps({**shown, "values": values}, ensure_ascii=False))
        return
    note = ", past its ttl: not used" if expired else ""
    say(f"{args.entity}  event time {event_time}, age {format_duration(age, units=2)}{note}")
    width = max(len(name) for name in values)
    for name, value in values.items():
        say(f"  {name:<{width}}  {'(none)' if value is None else value}")
