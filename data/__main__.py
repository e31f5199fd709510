"""`python -m data`: the data commands, where `rayscore` is not installed."""

from __future__ import annotations

import sys

from data.cli.command_line import CommandLine
from data.cli.commands import ONLINE, TABLES

_EPILOG = """examples:
  rayscore generate var/transactions --rows 100000 --end today
  rayscore convert transactions.csv transactions.parquet --types zip=string
  rayscore validate transactions.parquet --report report.html
  rayscore materialize transactions.parquet
  rayscore get user_17
  rayscore draft table.parquet --label target --out my_case.toml
  rayscore log --last 20

The use case is RAYSCORE_USE_CASE (default card_fraud) unless --use-case names another.
Work is spread over the Ray cluster that RAY_ADDRESS names, else over the CPUs of this machine.
Ray is started for tables of more than 250,000 rows; a smaller one is handled by the command itself.
exit codes: 0 done, 1 problems found or no such row, 2 could not run, 130 interrupted
"""

LINE = CommandLine("python -m data", "Prepare tables, and fill the online store.", (TABLES, ONLINE), _EPILOG)
main = LINE.main


if __name__ == "__main__":
    sys.exit(LINE.execute())
