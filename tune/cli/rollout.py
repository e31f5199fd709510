"""`rayscore rollout`: start, watch and end a rollout by orders in the registry's tags.

The serving side reads an order within a second and writes its outcome into another tag, for which this command waits
up to ten seconds. A rollback may also call a service's admin API: it is in force at once, without MLflow.
"""

from __future__ import annotations

import argparse
import secrets
import time
from contextlib import closing
from datetime import datetime, timezone

from rich.table import Table

from data.cli.options import add_use_case
from data.cli.terminal import EXIT_REFUSED, say, show_table
from data.errors import ConfigError, ModelNotFound
from data.schema.duration import parse_duration
from tune.cli.context import CommandContext, open_context
from tune.registry.rollout_spec import (
    ORDER_TAG,
    ROLLOUT_TAG,
    Rollout,
    RolloutAction,
    RolloutOrder,
    new_rollout,
    parse_order,
    parse_rollout,
    parse_slo,
    parse_steps,
    percents,
)
from tune.registry.traffic_rules import CHAMPION
from tune.skew.service_client import ServiceClient

_STATUS = "status"

_OUTCOME_TIMEOUT_S = 10.0
_POLL_S = 0.2
_EXAMPLES = """examples:
  rayscore rollout start 4 --steps 1,5,25,100 --hold 10m --slo p99=5ms,errors=0.1%
  rayscore rollout status
  rayscore rollout rollback
  rayscore rollout rollback --url http://127.0.0.1:8000

exit codes: 0 done, 1 refused or not taken up by anything that serves, 2 could not run
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = _EXAMPLES
    actions = [
        RolloutAction.START.value,
        _STATUS,
        *(action.value for action in RolloutAction if action is not RolloutAction.START),
    ]
    add = parser.add_argument
    add("action", choices=actions, help="what to do")
    add("model", nargs="?", metavar="VERSION|ALIAS", help="of start: the version to give traffic to")
    add("--steps", default="1,5,25,100", metavar="PERCENTS", help="shares of the entities (default: 1,5,25,100)")
    add("--hold", default="10m", metavar="TIME", help="how long each step is held at least, e.g. 90s (default: 10m)")
    add(
        "--slo",
        default="",
        metavar="TERMS",
        help="what the version must keep to (default: p99=50ms,errors=0.1%%,drift=0.1,decisions=2x); 'off' for none",
    )
    add("--alpha", type=float, default=0.05, help="chance that a good version is rolled back (default: 0.05)")
    add("--min-requests", type=int, default=300, metavar="N", help="requests of each step at least (default: 300)")
    add("--url", help="of rollback: the service to ask by its admin API, with the token in RAYSCORE_ADMIN_TOKEN")
    add_use_case(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out the action and return the exit code.

    Raises:
        ConfigError: an option is wrong, or the state of the rollout does not allow the action.
        ModelNotFound: no such version.
        RegistryUnavailable: MLflow does not answer.
        ServiceError: the service at `--url` does not answer, or wants another token.
    """
    context = open_context(args)
    if args.url is not None:
        return _roll_back_by_service(args, context)
    if args.action == _STATUS:
        return _status(context)
    if args.action == RolloutAction.START.value:
        return _send(
            context, RolloutOrder(id=_new_id(), action=RolloutAction.START, rollout=_declared_rollout(args, context))
        )
    if args.model is not None:
        raise ConfigError(f"rollout {args.action} takes no version: there is one rollout at most")
    return _send(context, RolloutOrder(id=_new_id(), action=RolloutAction(args.action)))


def _roll_back_by_service(args: argparse.Namespace, context: CommandContext) -> int:
    if args.action != RolloutAction.ROLLBACK.value or args.model is not None:
        raise ConfigError("--url: only `rollout rollback` goes by the admin API, and names no version")
    token = context.settings.admin_token
    if token is None:
        raise ConfigError("--url: set RAYSCORE_ADMIN_TOKEN to the token of the service's admin API")
    with closing(ServiceClient(args.url)) as service:
        service.champion(context.use_case.name)
        done = service.roll_back(token.get_secret_value(), _new_id())
    if done.outcome == "committed":
        say(f"in force on every replica: version {done.champion} answers everybody, epoch {done.epoch}")
        return 0
    if done.outcome == "preparing":
        say("being prepared; /admin/status tells what becomes of it")
    else:
        say(f"{done.outcome}: {done.reason}")
    return EXIT_REFUSED


def _declared_rollout(args: argparse.Namespace, context: CommandContext) -> Rollout:
    if args.model is None:
        raise ConfigError("rollout start: name the version, e.g. rayscore rollout start 4")
    name = context.use_case.name
    running = _current_rollout(context)
    if running is not None and not running.state.over:
        raise ConfigError(f"a rollout of version {running.version} is {running.state.value}: abort it first")
    try:
        champion = context.catalog.version(name, CHAMPION).version
    except ModelNotFound as exc:
        raise ConfigError(f"'{name}' has no champion to hold a version against: promote one first") from exc
    return new_rollout(
        id=_new_id(),
        use_case=name,
        version=context.catalog.version(name, args.model).version,
        champion=champion,
        steps=parse_steps(args.steps),
        hold_s=parse_duration(args.hold),
        min_requests=args.min_requests,
        slo=parse_slo(args.slo),
        alpha=args.alpha,
    )


def _send(context: CommandContext, order: RolloutOrder) -> int:
    """Write an order, wait for its outcome, print it, and return the exit code."""
    tags = _tags(context)
    if order.rollout is None and ROLLOUT_TAG not in tags and not _pending_order(tags):
        raise ConfigError(f"there is no rollout of '{context.use_case.name}' to {order.action.value}")
    context.catalog.set_tag(context.use_case.name, ORDER_TAG, order.model_dump_json())
    outcome = _outcome(context, order)
    if outcome is None:
        say(f"written, but nothing that serves '{context.use_case.name}' has taken it up yet; it will when it runs")
        return EXIT_REFUSED
    if outcome.answer:
        say(f"refused: {outcome.answer}")
        return EXIT_REFUSED
    say(f"version {outcome.version}: {outcome.state.value}; {outcome.reason}")
    return EXIT_REFUSED if order.action is RolloutAction.START and outcome.state.over else 0


def _outcome(context: CommandContext, order: RolloutOrder) -> Rollout | None:
    deadline = time.monotonic() + _OUTCOME_TIMEOUT_S
    while time.monotonic() < deadline:
        rollout = _current_rollout(context)
        if rollout is not None and rollout.order == order.id:
            return rollout
        time.sleep(_POLL_S)
    return None


def _status(context: CommandContext) -> int:
    tags = _tags(context)
    if pending := _pending_order(tags):
        say(pending)
    if ROLLOUT_TAG not in tags:
        say(f"there is no rollout of '{context.use_case.name}'")
        return 0
    rollout = parse_rollout(tags[ROLLOUT_TAG])
    at = f"step {rollout.step + 1} of {len(rollout.steps)}, {rollout.weight:g} % of the entities"
    say(f"{rollout.use_case} version {rollout.version} against champion {rollout.champion}: {rollout.state.value}")
    say(f"{at if rollout.step >= 0 else 'no step yet'}; steps {percents(rollout.steps)}, hold {rollout.hold_s:g} s")
    say(rollout.reason)
    table = Table("at (UTC)", "what", box=None)
    for event in rollout.history:
        table.add_row(datetime.fromtimestamp(event.at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S"), event.text)
    show_table(table)
    return 0


def _pending_order(tags: dict[str, str]) -> str | None:
    """The text about an order that no service has answered yet, None when there is no such order."""
    if ORDER_TAG not in tags:
        return None
    order = parse_order(tags[ORDER_TAG])
    answered = ROLLOUT_TAG in tags and parse_rollout(tags[ROLLOUT_TAG]).order == order.id
    return None if answered else f"the order '{order.action.value}' was not taken up yet"


def _new_id() -> str:
    return secrets.token_hex(4)


def _tags(context: CommandContext) -> dict[str, str]:
    return context.catalog.tags(context.use_case.name)


def _current_rollout(context: CommandContext) -> Rollout | None:
    """The rollout as the serving side wrote it, None without one."""
    text = _tags(context).get(ROLLOUT_TAG)
    return parse_rollout(text) if text else None
