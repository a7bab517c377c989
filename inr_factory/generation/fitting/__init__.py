"""Fitting: many INRs at once, each to its own signal, by one of several engines behind `fit_views.fit_views`."""
