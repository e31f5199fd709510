"""The online store in a Cassandra cluster: store, driver settings, reads, token routing, asyncio bridge."""
