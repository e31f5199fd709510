"""What Control knows: the registry's versions and rules, the replicas, the changes that are under way."""
