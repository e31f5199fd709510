"""Control's part in the replicas: the agent in each, what it measures, what it serves, how many there are."""
