"""One search from table to registered challenger, as one call."""
