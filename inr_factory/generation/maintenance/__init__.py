"""Maintenance: verify, repair and merge data sets."""
