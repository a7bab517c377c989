"""Support: what many tests share."""
