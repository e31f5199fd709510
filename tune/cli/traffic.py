"""`rayscore traffic`: show the traffic rules that the registry keeps, or replace them by a file's."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.table import Table

from data.cli.options import add_use_case
from data.cli.terminal import say, show_table
from data.errors import ConfigError
from tune.cli.context import CommandContext, open_context
from tune.registry.rollout_spec import ROLLOUT_TAG, parse_rollout
from tune.registry.traffic_rules import CHAMPION, TRAFFIC_TAG, Mode, TrafficRules, load_rules, parse_rules

_EXAMPLES = """examples:
  rayscore traffic show
  rayscore traffic set rules.toml

a rules file:
  use_case = "card_fraud"
  champion = "3"
  challengers = [
    { version = "4", weight = 20 },
    { version = "5", weight = 100, mode = "shadow" },
  ]
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = _EXAMPLES
    parser.add_argument("action", choices=["show", "set"], help="what to do")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="of set: the rules, TOML or JSON")
    add_use_case(parser)


def run(args: argparse.Namespace) -> int:
    """Show or set the traffic rules and return the exit code.

    Raises:
        ConfigError: the file is not valid, names another champion than the registry, or is of another use case.
        ModelNotFound: the rules name a version that is not registered.
        RegistryUnavailable: MLflow does not answer.
    """
    context = open_context(args)
    if args.action == "show":
        if args.file is not None:
            raise ConfigError("traffic show takes no file")
        return _show(context)
    if args.file is None:
        raise ConfigError("traffic set: name the file of the rules, e.g. rayscore traffic set rules.toml")
    return _set(context, load_rules(args.file), str(args.file))


def _show(context: CommandContext) -> int:
    rules = _registered_rules(context)
    if rules is None:
        champion = context.catalog.version(context.use_case.name, CHAMPION).version
        say(f"no rules are kept for '{context.use_case.name}': version {champion}, the {CHAMPION}, answers everybody")
        return 0
    live = sum(each.weight for each in rules.challengers if each.mode is Mode.LIVE)
    table = Table("version", "role", "share of the entities", box=None)
    table.add_row(rules.champion, CHAMPION, f"{100 - live:g} %")
    for each in rules.challengers:
        table.add_row(each.version, f"challenger, {each.mode.value}", f"{each.weight:g} %")
    say(f"{rules.use_case}, epoch {rules.epoch}")
    show_table(table)
    return 0


def _set(context: CommandContext, rules: TrafficRules, source: str) -> int:
    name = context.use_case.name
    if rules.use_case != name:
        raise ConfigError(f"{source}: the rules are of '{rules.use_case}', expected '{name}' (or choose by --use-case)")
    champion = context.catalog.version(name, CHAMPION).version
    if rules.champion != champion:
        raise ConfigError(
            f"{source}: champion: version {champion} is the {CHAMPION}; promote version {rules.champion} to change it"
        )
    for version in rules.versions:
        context.catalog.version(name, version)
    current = _registered_rules(context)
    # The first rules have epoch 0, so that they follow whatever is in force.
    after = rules.after(current) if current is not None else rules.model_copy(update={"epoch": 0})
    context.catalog.set_tag(name, TRAFFIC_TAG, after.model_dump_json())
    say(f"written: what serves '{name}' takes it up within 2 s")
    text = context.catalog.tags(context.use_case.name).get(ROLLOUT_TAG)
    if text and not (rollout := parse_rollout(text)).state.over:
        say(f"a rollout of version {rollout.version} is {rollout.state.value}: another weight for it pauses it")
    return 0


def _registered_rules(context: CommandContext) -> TrafficRules | None:
    text = context.catalog.tags(context.use_case.name).get(TRAFFIC_TAG)
    if not text:
        return None
    try:
        return parse_rules(json.loads(text), f"tag {TRAFFIC_TAG}")
    except ValueError as exc:
        raise ConfigError(f"tag {TRAFFIC_TAG} is not JSON: {exc}") from exc
