"""Batch scoring: a Parquet table in, scores out, bit for bit as HTTP answers."""
