"""Calls from a gateway to stage replicas: over persistent TCP connections (links), else by Ray Serve's handle."""
