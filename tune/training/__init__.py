"""Training: boosting with XGBoost in one process or on a cluster, calibration, and the export to ONNX."""
