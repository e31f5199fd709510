"""Window features of one row, from the stored events of its entities and from their tiles."""
