"""The prediction log: what was answered is written by a process of its own, and never waited for."""
