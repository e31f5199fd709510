"""The data commands, one a module, and the table of them."""

from __future__ import annotations

from data.cli.command_line import Command, CommandGroup

TABLES = CommandGroup(
    "tables",
    (
        Command("generate", "data.cli.commands.generate", "write the seeded table of a shipped use case as Parquet"),
        Command("convert", "data.cli.commands.convert", "convert CSV to Parquet"),
        Command("validate", "data.cli.commands.validate", "check a table against a use case"),
        Command(
            "features", "data.cli.commands.features", "add to each row the windows that it would have been served with"
        ),
        Command("draft", "data.cli.commands.draft", "look at a table and write a use-case file for it"),
    ),
)
ONLINE = CommandGroup(
    "online store and prediction log",
    (
        Command(
            "materialize", "data.cli.commands.materialize", "write the latest row of every entity to the online store"
        ),
        Command("get", "data.cli.commands.get", "show what the online store holds of an entity"),
        Command(
            "ingest", "data.cli.commands.ingest", "store the events of a table or of a Kafka topic for window features"
        ),
        Command("log", "data.cli.commands.log", "read the prediction log of a service"),
    ),
)
