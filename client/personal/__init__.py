"""Models of an institution's own, made of a run's and of what its algorithm kept here."""
