"""Events of tables and of requests: keys, entities, packed values, and rows that are no event."""
