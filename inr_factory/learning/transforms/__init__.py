"""Transforms: augmentations of INRs in weight space."""
