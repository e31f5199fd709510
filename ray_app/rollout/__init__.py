"""Rollouts: what is counted of each version, how versions are held against each other, and who raises the weights."""
