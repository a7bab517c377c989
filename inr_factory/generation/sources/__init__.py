"""Sources: the collections that INRs are fitted to."""
