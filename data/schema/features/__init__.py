"""Features as they are declared: columns, windows, expressions; their schema and its profile."""
