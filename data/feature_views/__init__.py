"""Feature views over events: the same windows for a table (offline) and for one row that is scored (online)."""
