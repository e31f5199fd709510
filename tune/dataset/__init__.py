"""From a table to encoded examples: loading, splitting, shards, and the fingerprint of the content."""
