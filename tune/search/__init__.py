"""Ray Tune's search: space, sampler, scheduler, trials, their log, and their way to MLflow."""
