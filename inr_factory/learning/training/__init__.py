"""Training: classifiers, contrastive pre-training, sweeps."""
