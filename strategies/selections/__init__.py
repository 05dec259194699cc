"""Who takes part in a round, one file a kind."""
