"""`python -m tune rollout`: start, watch and end a rollout by way of the registry's tags.

Who serves reads the order within a second and writes what became of it; this command waits a moment for that.
"""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import NamedTuple

from rich.table import Table

from data.errors import ConfigError, ModelNotFound
from data.rollout import (
    ORDER_TAG,
    ROLLOUT_TAG,
    Action,
    Order,
    Rollout,
    new_rollout,
    parse_duration,
    parse_order,
    parse_rollout,
    parse_slo,
    parse_steps,
    percents,
)
from data.usecase import UseCase
from tune.registry import CHAMPION, Registry

_STATUS = "status"
_EXIT_REFUSED = 1
_TAKEN_S = 6.0
_LOOK_AGAIN_S = 0.2
_EXAMPLES = """examples:
  python -m tune rollout start 4 --steps 1,5,25,100 --hold 10m --slo p99=5ms,errors=0.1%
  python -m tune rollout status
  python -m tune rollout rollback

exit codes: 0 done, 1 refused or not taken up by anything that serves, 2 could not run
"""


class Desk(NamedTuple):
    """Where orders are written, and how what comes of them is told."""

    registry: Registry
    use_case: UseCase
    say: Callable[[str], None]
    show: Callable[[Table], None]

    def tags(self) -> dict[str, str]:
        """The tags of the model."""
        return self.registry.tags(self.use_case.name)

    def rollout(self) -> Rollout | None:
        """The rollout as who serves has written it, None without one."""
        text = self.tags().get(ROLLOUT_TAG)
        return parse_rollout(text) if text else None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLES
    actions = [Action.START.value, _STATUS, *(action.value for action in Action if action is not Action.START)]
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


def run(args: argparse.Namespace, desk: Desk) -> int:
    """Carry out the command and return the exit code.

    Raises:
        ConfigError: a value is wrong, or nothing of the kind is possible now.
        ModelNotFound: no such version.
        RegistryUnavailable: MLflow does not answer.
    """
    if args.action == _STATUS:
        return _status(desk)
    if args.action == Action.START.value:
        return _send(desk, Order(id=_id(), action=Action.START, rollout=_declared(args, desk)))
    if args.model is not None:
        raise ConfigError(f"rollout {args.action} takes no version: there is one rollout at most")
    return _send(desk, Order(id=_id(), action=Action(args.action)))


def _declared(args: argparse.Namespace, desk: Desk) -> Rollout:
    if args.model is None:
        raise ConfigError("rollout start: name the version, e.g. python -m tune rollout start 4")
    name = desk.use_case.name
    running = desk.rollout()
    if running is not None and not running.state.over:
        raise ConfigError(f"a rollout of version {running.version} is {running.state.value}: abort it first")
    try:
        champion = desk.registry.version(name, CHAMPION).version
    except ModelNotFound as exc:
        raise ConfigError(f"'{name}' has no champion to hold a version against: promote one first") from exc
    return new_rollout(
        id=_id(),
        use_case=name,
        version=desk.registry.version(name, args.model).version,
        champion=champion,
        steps=parse_steps(args.steps),
        hold_s=parse_duration(args.hold),
        min_requests=args.min_requests,
        slo=parse_slo(args.slo),
        alpha=args.alpha,
    )


def _send(desk: Desk, order: Order) -> int:
    """Write an order and say what became of it."""
    tags = desk.tags()
    if order.rollout is None and ROLLOUT_TAG not in tags and not _waiting(tags):
        raise ConfigError(f"there is no rollout of '{desk.use_case.name}' to {order.action.value}")
    desk.registry.set_tag(desk.use_case.name, ORDER_TAG, order.model_dump_json())
    taken = _taken(desk, order)
    if taken is None:
        desk.say(f"written, but nothing that serves '{desk.use_case.name}' has taken it up yet; it will when it runs")
        return _EXIT_REFUSED
    if taken.answer:
        desk.say(f"refused: {taken.answer}")
        return _EXIT_REFUSED
    desk.say(f"version {taken.version}: {taken.state.value}; {taken.reason}")
    return _EXIT_REFUSED if order.action is Action.START and taken.state.over else 0


def _taken(desk: Desk, order: Order) -> Rollout | None:
    deadline = time.monotonic() + _TAKEN_S
    while time.monotonic() < deadline:
        found = desk.rollout()
        if found is not None and found.order == order.id:
            return found
        time.sleep(_LOOK_AGAIN_S)
    return None


def _status(desk: Desk) -> int:
    tags = desk.tags()
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
