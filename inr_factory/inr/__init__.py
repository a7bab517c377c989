"""INRs: what one is (spec), a batch of them, their metrics. Knows nothing of data sets."""
