"""Rollouts: statistics of each version, their comparison with the champion, and the raising of weights."""
