"""The table of the data commands."""

from __future__ import annotations

from data.cli.command_line import Command, CommandGroup

TABLES = CommandGroup(
    "tables",
    (
        Command("generate", "data.cli.generate", "write seeded card transactions as Parquet"),
        Command("convert", "data.cli.convert", "convert CSV to Parquet"),
        Command("validate", "data.cli.validate", "check a table against a use case"),
        Command("features", "data.cli.features", "add to each row the windows that it would have been served with"),
        Command("draft", "data.cli.draft", "look at a table and write a use-case file for it"),
    ),
)
ONLINE = CommandGroup(
    "online store and prediction log",
    (
        Command("materialize", "data.cli.materialize", "write the latest row of every entity to the online store"),
        Command("get", "data.cli.get", "show what the online store holds of an entity"),
        Command("ingest", "data.cli.ingest", "store the events of a table or of a Kafka topic for window features"),
        Command("log", "data.cli.log", "read the prediction log of a service"),
    ),
)
