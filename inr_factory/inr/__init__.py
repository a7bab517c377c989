"""INRs: their architecture (spec), batches, rendering and metrics, without data sets."""
