"""The MLflow registry, the bundle that it holds, and the traffic rules. Imports nothing: serving uses it."""
