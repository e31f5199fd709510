"""`rayscore promote`: check a version against the gates, and make it the champion if it passes."""

from __future__ import annotations

import argparse

from rich.table import Table

from data.cli.options import add_use_case
from data.cli.terminal import EXIT_REFUSED, say, show_table
from tune.cli import skew
from tune.cli.context import CommandContext, open_context
from tune.promotion.promotion import PromotionVerdict, promote
from tune.registry.traffic_rules import CHALLENGER, CHAMPION

NOT_JUDGED = "not-judged"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "model", metavar="VERSION|ALIAS", nargs="?", default=CHALLENGER, help="default: challenger, the latest"
    )
    parser.add_argument("--skew-proof", metavar="URL", help="prove on this service that serving is as training was")
    parser.add_argument("--new-schema", action="store_true", help="let the schema differ from the champion's")
    parser.add_argument(
        "--accept",
        choices=[NOT_JUDGED],
        help="let gates pass that cannot be judged, as when no row is left that neither model has learned from",
    )
    skew.add_options(parser)
    add_use_case(parser)


def run(args: argparse.Namespace) -> int:
    """Check the gates, promote the version if they pass, and return the exit code.

    Raises:
        ConfigError: an option is wrong, or goes with another one only.
        ModelNotFound: the version, or its holdout, is not in the registry.
        RegistryUnavailable: MLflow does not answer.
        ServiceError: the service of `--skew-proof` does not answer.
    """
    context = open_context(args)
    prove = skew.prover(args, args.skew_proof, context.use_case)
    verdict = promote(context.registry, context.use_case, args.model, prove, args.new_schema, args.accept == NOT_JUDGED)
    if verdict.proof and not verdict.proof.passed:
        skew.print_proof(verdict.proof, verdict.bundle)
        say("")
    return print_verdict(verdict, context)


def print_verdict(verdict: PromotionVerdict, context: CommandContext) -> int:
    """Print the gates and the outcome; return the exit code: 0 promoted, 1 refused."""
    table = Table("gate", "value", "limit", "verdict", box=None)
    for gate in verdict.gates:
        table.add_row(gate.name, gate.value, gate.limit, gate.verdict)
    show_table(table)
    if verdict.passed:
        say(f"{context.use_case.name} version {verdict.version} is now the {CHAMPION}")
        return 0
    say(f"{context.use_case.name} version {verdict.version} is not promoted; the {CHAMPION} stays as it was")
    if all(gate.passed is not False for gate in verdict.gates):
        say(f"only gates that cannot be judged are in its way: --accept {NOT_JUDGED} lets them pass")
    return EXIT_REFUSED
