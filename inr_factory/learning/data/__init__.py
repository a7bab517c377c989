"""Data: data sets of INRs as torch data sets, sampled in batches."""
