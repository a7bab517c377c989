"""Generation: makes INRs: recipes, sources, fitting, execution, maintenance."""
