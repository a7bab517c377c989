"""Command line: `inr-factory` and its commands, a thin layer over the Python functions."""
