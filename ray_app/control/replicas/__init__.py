"""Control's part in the replicas: the agent in each of them, what they measure, what they serve and how many there are."""
