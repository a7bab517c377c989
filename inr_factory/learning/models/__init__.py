"""Models: encoders of INRs, by name, and the classifier and the contrastive model built on one."""
