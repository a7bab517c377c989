"""Reporting: plots, galleries, the HTML report, comparisons."""
