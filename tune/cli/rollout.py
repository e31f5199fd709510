"""`rayscore rollout`: start, watch and end a rollout by way of the registry's tags.

Who serves reads the order within a second and writes what became of it; this command waits a moment for that. A
rollback may also go by a service's admin door: it is in force at once, and takes no MLflow.
"""

from __future__ import annotations

import argparse
import secrets
import time
from contextlib import closing
from datetime import datetime, timezone

from rich.table import Table

from data.cli.options import add_use_case
from data.cli.terminal import EXIT_REFUSED
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

_TAKEN_S = 10.0
_LOOK_AGAIN_S = 0.2
_EXAMPLES = """examples:
  rayscore rollout start 4 --steps 1,5,25,100 --hold 10m --slo p99=5ms,errors=0.1%
  rayscore rollout status
  rayscore rollout rollback
  rayscore rollout rollback --url http://127.0.0.1:8000

exit codes: 0 done, 1 refused or not taken up by anything that serves, 2 could not run
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
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
    add("--url", help="of rollback: the service to ask by its admin door, with the token in RAYSCORE_ADMIN_TOKEN")
    add_use_case(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out the command and return the exit code.

    Raises:
        ConfigError: a value is wrong, or nothing of the kind is possible now.
        ModelNotFound: no such version.
        RegistryUnavailable: MLflow does not answer.
        ServiceError: the service at `--url` does not answer, or wants another token.
    """
    desk = open_context(args)
    if args.url is not None:
        return _by_door(args, desk)
    if args.action == _STATUS:
        return _status(desk)
    if args.action == RolloutAction.START.value:
        return _send(desk, RolloutOrder(id=_id(), action=RolloutAction.START, rollout=_declared(args, desk)))
    if args.model is not None:
        raise ConfigError(f"rollout {args.action} takes no version: there is one rollout at most")
    return _send(desk, RolloutOrder(id=_id(), action=RolloutAction(args.action)))


def _by_door(args: argparse.Namespace, desk: CommandContext) -> int:
    if args.action != RolloutAction.ROLLBACK.value or args.model is not None:
        raise ConfigError("--url: only `rollout rollback` goes by the admin door, and names no version")
    token = desk.settings.admin_token
    if token is None:
        raise ConfigError("--url: set RAYSCORE_ADMIN_TOKEN to the token of the service's admin door")
    with closing(ServiceClient(args.url)) as service:
        service.champion(desk.use_case.name)
        done = service.roll_back(token.get_secret_value(), _id())
    if done.outcome == "committed":
        desk.say(f"in force on every replica: version {done.champion} answers everybody, epoch {done.epoch}")
        return 0
    if done.outcome == "preparing":
        desk.say("being prepared; /admin/status tells what becomes of it")
    else:
        desk.say(f"{done.outcome}: {done.reason}")
    return EXIT_REFUSED


def _declared(args: argparse.Namespace, desk: CommandContext) -> Rollout:
    if args.model is None:
        raise ConfigError("rollout start: name the version, e.g. rayscore rollout start 4")
    name = desk.use_case.name
    running = _kept(desk)
    if running is not None and not running.state.over:
        raise ConfigError(f"a rollout of version {running.version} is {running.state.value}: abort it first")
    try:
        champion = desk.catalog.version(name, CHAMPION).version
    except ModelNotFound as exc:
        raise ConfigError(f"'{name}' has no champion to hold a version against: promote one first") from exc
    return new_rollout(
        id=_id(),
        use_case=name,
        version=desk.catalog.version(name, args.model).version,
        champion=champion,
        steps=parse_steps(args.steps),
        hold_s=parse_duration(args.hold),
        min_requests=args.min_requests,
        slo=parse_slo(args.slo),
        alpha=args.alpha,
    )


def _send(desk: CommandContext, order: RolloutOrder) -> int:
    """Write an order and say what became of it."""
    tags = _tags(desk)
    if order.rollout is None and ROLLOUT_TAG not in tags and not _waiting(tags):
        raise ConfigError(f"there is no rollout of '{desk.use_case.name}' to {order.action.value}")
    desk.catalog.set_tag(desk.use_case.name, ORDER_TAG, order.model_dump_json())
    taken = _taken(desk, order)
    if taken is None:
        desk.say(f"written, but nothing that serves '{desk.use_case.name}' has taken it up yet; it will when it runs")
        return EXIT_REFUSED
    if taken.answer:
        desk.say(f"refused: {taken.answer}")
        return EXIT_REFUSED
    desk.say(f"version {taken.version}: {taken.state.value}; {taken.reason}")
    return EXIT_REFUSED if order.action is RolloutAction.START and taken.state.over else 0


def _taken(desk: CommandContext, order: RolloutOrder) -> Rollout | None:
    deadline = time.monotonic() + _TAKEN_S
    while time.monotonic() < deadline:
        found = _kept(desk)
        if found is not None and found.order == order.id:
            return found
        time.sleep(_LOOK_AGAIN_S)
    return None


def _status(desk: CommandContext) -> int:
    tags = _tags(desk)
    if waiting := _waiting(tags):
        desk.say(waiting)
    if ROLLOUT_TAG not in tags:
        desk.say(f"there is no rollout of '{desk.use_case.name}'")
        return 0
    rollout = parse_rollout(tags[ROLLOUT_TAG])
    at = f"step {rollout.step + 1} of {len(rollout.steps)}, {rollout.weight:g} % of the entities"
    desk.say(f"{rollout.use_case} version {rollout.version} against champion {rollout.champion}: {rollout.state.value}")
    desk.say(
        f"{at if rollout.step >= 0 else 'no step yet'}; steps {percents(rollout.steps)}, hold {rollout.hold_s:g} s"
    )
    desk.say(rollout.reason)
    table = Table("at (UTC)", "what", box=None)
    for event in rollout.history:
        table.add_row(datetime.fromtimestamp(event.at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S"), event.text)
    desk.show(table)
    return 0


def _waiting(tags: dict[str, str]) -> str | None:
    """What to say of an order that nobody has answered."""
    if ORDER_TAG not in tags:
        return None
    order = parse_order(tags[ORDER_TAG])
    answered = ROLLOUT_TAG in tags and parse_rollout(tags[ROLLOUT_TAG]).order == order.id
    return None if answered else f"the order '{order.action.value}' was not taken up yet"


def _id() -> str:
    return secrets.token_hex(4)


def _tags(desk: CommandContext) -> dict[str, str]:
    return desk.catalog.tags(desk.use_case.name)


def _kept(desk: CommandContext) -> Rollout | None:
    """The rollout as who serves has written it, None without one."""
    text = _tags(desk).get(ROLLOUT_TAG)
    return parse_rollout(text) if text else None
