"""Fitting XGBoost in one process or many, calibration, and export to ONNX."""
