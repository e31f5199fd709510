"""Training data: loading a table, its fingerprint, the split, encoded examples, and shards of a large one."""
