"""Storage: what a data set is on disk: manifest, shards, locations, dataset card."""
