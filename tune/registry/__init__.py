"""The model registry on MLflow, the model bundle, traffic rules and rollouts.

This file imports nothing: serving reads bundles from this package and must not load MLflow for it.
"""
