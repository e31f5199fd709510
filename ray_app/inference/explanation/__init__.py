"""The explanation of an answer: TreeSHAP contributions, the way to the replicas that compute them, reason codes."""
