"""`python -m tune promote`: hold a version against the gates, and make it the champion if it passes."""

from __future__ import annotations

import argparse

from rich.table import Table

from data.console import EXIT_REFUSED
from data.traffic import CHALLENGER, CHAMPION
from tune import skew_command
from tune.desk import Desk
from tune.promotion import Verdict, promote


def add_promote(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.set_defaults(run=_promote)
    parser.add_argument(
        "model", metavar="VERSION|ALIAS", nargs="?", default=CHALLENGER, help="default: challenger, the latest"
    )
    parser.add_argument("--skew-proof", metavar="URL", help="prove on this service that serving is as training was")
    parser.add_argument("--new-schema", action="store_true", help="let the schema differ from the champion's")
    skew_command.add_options(parser)


def _promote(args: argparse.Namespace, desk: Desk) -> int:
    prove = skew_command.prover(args, args.skew_proof, desk.use_case)
    verdict = promote(desk.registry, desk.use_case, args.model, prove, args.new_schema)
    if verdict.proof and not verdict.proof.passed:
        skew_command.print_proof(verdict.proof, verdict.bundle, desk.out)
        desk.say("")
    return print_verdict(verdict, desk)


def print_verdict(verdict: Verdict, desk: Desk) -> int:
    """Print the gates and what follows; return the exit code."""
    table = Table("gate", "value", "limit", "verdict", box=None)
    for gate in verdict.gates:
        table.add_row(gate.name, gate.value, gate.limit, gate.verdict)
    desk.show(table)
    if verdict.passed:
        desk.say(f"{desk.use_case.name} version {verdict.version} is now the {CHAMPION}")
        return 0
    desk.say(f"{desk.use_case.name} version {verdict.version} is not promoted; the {CHAMPION} stays as it was")
    return EXIT_REFUSED
