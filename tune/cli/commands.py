"""The table of the tune commands."""

from __future__ import annotations

from data.cli.command_line import Command, CommandGroup

SEARCH = Command("search", "tune.cli.search", "search, fit and register a challenger")
MODELS = CommandGroup(
    "models",
    (
        SEARCH,
        Command("list", "tune.cli.list", "list the registered versions"),
        Command("show", "tune.cli.show", "show a version's model card"),
        Command("compare", "tune.cli.compare", "hold two runs or versions side by side"),
        Command("skew", "tune.cli.skew", "prove that a running service computes what training computed"),
        Command("promote", "tune.cli.promote", "make a version the champion if it passes the gates"),
    ),
)
TABLES = CommandGroup(
    "tables", (Command("validate", "tune.cli.validate", "check a table against a use case and a registered model"),)
)
TRAFFIC = CommandGroup(
    "traffic",
    (
        Command("rollout", "tune.cli.rollout", "give a version traffic step by step while it does no worse"),
        Command("traffic", "tune.cli.traffic", "show or set which version answers whom"),
    ),
)
