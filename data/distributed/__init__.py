"""Parallel work: the connection to Ray, Ray Data streams, Ray tasks, and child processes of this machine."""
