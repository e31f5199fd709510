"""The event store in a Cassandra cluster: store, statements, and what many queries answer."""
