"""The tune commands."""
