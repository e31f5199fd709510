"""Use cases in time over cards: the head of those that tests spell out, and the transactions that are ingested."""

CARDS_HEAD = """
name = "cards"
label = "y"
key = "id"
event_time = "t"
"""
"""First lines of a use case over a small table: `id` is the key of a row, `t` its time, `y` its label."""

INGESTED_CARDS = """
name = "cards"
label = "is_fraud"
key = "transaction_id"
event_time = "timestamp"
[events.transactions]
entities = ["user_id", "terminal_id"]
values = { amount = { decimals = 2 } }
[features]
amount = { type = "number" }
card_count_30d = { aggregate = "count", window = "30d", by = "user_id" }
"""
"""A use case with a source of events that are a table's rows or a topic's messages."""
