"""Alignment: INRs matched to one another, and mixed."""
