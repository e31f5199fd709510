"""Ingest: events of tables and of Kafka topics into the event store, each counted."""
