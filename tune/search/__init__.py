"""Hyperparameter search on Ray Tune: space, sampler, scheduler, trials, their log, and their upload to MLflow."""
