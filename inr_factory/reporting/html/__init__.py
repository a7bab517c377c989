"""HTML report: one file that shows what a set is, how good it is, and what its weights look like. Opens offline."""
