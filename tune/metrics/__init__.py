"""Figures of ranking and calibration, with bootstrap intervals."""
