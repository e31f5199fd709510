"""`rayscore promote`: hold a version against the gates, and make it the champion if it passes."""

from __future__ import annotations

import argparse

from rich.table import Table

from data.cli.options import add_use_case
from data.cli.terminal import EXIT_REFUSED
from tune.cli import skew
from tune.cli.context import CommandContext, open_context
from tune.promotion.promotion import PromotionVerdict, promote
from tune.registry.traffic_rules import CHALLENGER, CHAMPION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "model", metavar="VERSION|ALIAS", nargs="?", default=CHALLENGER, help="default: challenger, the latest"
    )
    parser.add_argument("--skew-proof", metavar="URL", help="prove on this service that serving is as training was")
    parser.add_argument("--new-schema", action="store_true", help="let the schema differ from the champion's")
    skew.add_options(parser)
    add_use_case(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the gates, promote or not, and return the exit code.

    Raises:
        ConfigError: an option is wrong, or goes with another one only.
        ModelNotFound: the version, or its holdout, is not in the registry.
        RegistryUnavailable: MLflow does not answer.
        ServiceError: the service that is to prove it does not answer.
    """
    desk = open_context(args)
    prove = skew.prover(args, args.skew_proof, desk.use_case)
    verdict = promote(desk.registry, desk.use_case, args.model, prove, args.new_schema)
    if verdict.proof and not verdict.proof.passed:
        skew.print_proof(verdict.proof, verdict.bundle, desk.out)
        desk.say("")
    return print_verdict(verdict, desk)


def print_verdict(verdict: PromotionVerdict, desk: CommandContext) -> int:
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
