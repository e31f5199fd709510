"""How each kind of target is learned and judged: objective, calibration, decision, figures, baselines."""
