"""The commands of the serving side, and `rayscore`, which has all commands."""
