"""Learning: reads INRs: data, transforms, alignment, models, training."""
