"""The event store in a Cassandra cluster: store, statements, tiles of hot entities, and what many queries answer."""
