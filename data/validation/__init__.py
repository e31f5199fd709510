"""Checking a table against its use case, and the report of it."""
