"""Validation: checks of a table against its use case, and the report on them."""
