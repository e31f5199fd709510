"""`rayscore get`: the online row of one entity."""

from __future__ import annotations

import argparse
import asyncio
import time
from contextlib import closing

from data.cli.options import add_use_case, use_case_of
from data.cli.terminal import EXIT_REFUSED, err, say, say_json
from data.online_store import materialization, open_store
from data.online_store.row_codec import OnlineRow, RowCodec
from data.schema.duration import format_duration
from data.schema.entity import Entity
from data.schema.features.feature import Scalar
from data.settings import load_settings
from data.transform.encoding import FLOAT32_MAX
from data.transform.entity_key import entity_key
from data.transform.event_time import iso_time

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
        DataError: the key is blank, or not how a key of this use case is written.
        StoreUnavailable: the store does not answer.
    """
    use_case, settings = use_case_of(args), load_settings()
    materialization.online_columns(use_case)
    entity = use_case.entity or Entity(column="")
    key, ttl = entity_key(args.entity, entity), entity.ttl_seconds
    codec = RowCodec(use_case.schema_)
    with closing(open_store(settings, use_case.view, ttl)) as store:
        payload = asyncio.run(store.get_many([key]))[0]
    row = codec.unpack(payload) if payload is not None else None
    if row is None:
        err.print(f"no row for '{args.entity}' in view {use_case.view} of the {settings.store} store", markup=False)
        return EXIT_REFUSED
    _show(args, codec, row, ttl)
    return 0


def _show(args: argparse.Namespace, codec: RowCodec, row: OnlineRow, ttl: int | None) -> None:
    age = time.time() - row.event_us / 1e6
    values = {name: _used(value) for name, value in zip(codec.names, row.values, strict=True)}
    event_time = iso_time(row.event_us)
    expired = ttl is not None and age > ttl
    if args.json:
        shown = {"entity": args.entity, "event_time": event_time, "age_seconds": round(age, 3), "expired": expired}
        say_json({**shown, "values": values})
        return
    note = ", past its ttl: not used" if expired else ""
    say(f"{args.entity}  event time {event_time}, age {format_duration(age, units=2)}{note}")
    width = max(len(name) for name in values)
    for name, value in values.items():
        say(f"  {name:<{width}}  {'(none)' if value is None else value}")


def _used(value: Scalar | None) -> Scalar | None:
    """Return the number that a model is given for a stored one: what no float32 holds becomes the largest there is."""
    return min(max(value, -FLOAT32_MAX), FLOAT32_MAX) if isinstance(value, float) else value
