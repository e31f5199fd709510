"""What a person is shown of a model: holdout figures, baselines, slices, leakage alarms, model card and plots."""
