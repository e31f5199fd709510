"""Evaluation of a model for people: holdout figures, baselines, slices, leakage alarms, model card and plots."""
