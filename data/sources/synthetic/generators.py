"""The generators, by the use case that their table is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from data.sources.row_origin import Origin, with_origin
from data.sources.synthetic import deliveries, impressions, posts, tickets, transactions
from data.sources.synthetic.plan import BLOCK_ROWS, GenerationPlan, Shard

ORIGIN = "generated"
"""What generated rows name as their file."""
_GROUP_BLOCKS = 8


@dataclass(frozen=True)
class Generator:
    """What makes the table of one use case. It pickles: its functions are those of a module."""

    rows: str
    """What the rows are."""
    entities: str
    """What they are of."""
    daily: float
    """Rows of an entity a day, where nobody says how many entities there are."""
    schema: pa.Schema
    make: Callable[[GenerationPlan, int, int], pa.Table]
    """Returns the rows of the blocks from one up to another (exclusive)."""
    tally: Callable[[pa.Table], Counter[str]]
    """Returns counts of some rows that add up."""
    outcome: Callable[[Counter[str], int], str]
    """Says in words what the counts of so many rows show of the label."""

    def default_entities(self, rows: int, days: int) -> int:
        """Return the default number of entities: by the rows a day, at least 50."""
        return max(50, int(rows / (self.daily * days)))

    def tables(self, shard: Shard) -> Iterator[pa.Table]:
        """Yield the shard's rows in order, as tables of a few blocks each."""
        for first in range(shard.first, shard.last, _GROUP_BLOCKS):
            yield self.make(shard.plan, first, min(first + _GROUP_BLOCKS, shard.last))

    def tables_with_origin(self, shard: Shard) -> Iterator[pa.Table]:
        """Yield what `tables` does with the columns of the rows' origin: their numbers among all rows of the plan."""
        row = shard.first * BLOCK_ROWS
        for table in self.tables(shard):
            yield with_origin(table, Origin(ORIGIN, row))
            row += table.num_rows

    def counted(self, table: pa.Table) -> tuple[int, Counter[str]]:
        """Return the number of some rows, and their counts."""
        return table.num_rows, self.tally(table)


GENERATORS = {
    "card_fraud": Generator(
        rows="transactions",
        entities="cards",
        daily=0.5,
        schema=transactions.SCHEMA,
        make=transactions.table,
        tally=transactions.tally,
        outcome=transactions.outcome,
    ),
    "delivery_time": Generator(
        rows="deliveries",
        entities="kitchens",
        daily=10,
        schema=deliveries.SCHEMA,
        make=deliveries.table,
        tally=deliveries.tally,
        outcome=deliveries.outcome,
    ),
    "post_sentiment": Generator(
        rows="posts",
        entities="authors",
        daily=0.1,
        schema=posts.SCHEMA,
        make=posts.table,
        tally=posts.tally,
        outcome=posts.outcome,
    ),
    "product_ranking": Generator(
        rows="impressions",
        entities="users",
        daily=0.5,
        schema=impressions.SCHEMA,
        make=impressions.table,
        tally=impressions.tally,
        outcome=impressions.outcome,
    ),
    "ticket_routing": Generator(
        rows="tickets",
        entities="customers",
        daily=0.05,
        schema=tickets.SCHEMA,
        make=tickets.table,
        tally=tickets.tally,
        outcome=tickets.outcome,
    ),
}
"""By the name of the shipped use case."""
