"""Execution: a fit planned, run by local processes or Ray, and recorded."""
