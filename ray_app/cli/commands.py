"""The table of the serving side's commands."""

from __future__ import annotations

from data.cli.command_line import Command, CommandGroup

SERVING = CommandGroup(
    "serving",
    (
        Command("demo", "ray_app.cli.demo", "from generated data to live predictions, then keep serving"),
        Command("score", "ray_app.cli.score", "score a Parquet file or folder with the champion"),
        Command("late", "ray_app.cli.late", "list logged decisions that would be others, had late events been there"),
        Command("loadtest", "ray_app.cli.loadtest", "send requests on a fixed schedule and judge the answers"),
        Command("env", "ray_app.cli.env", "print the environment in which Ray Serve is fast, for `ray start`"),
    ),
)
