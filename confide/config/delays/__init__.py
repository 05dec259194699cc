"""Virtual time: how long simulated clients take to answer, and whether they do; a file a kind."""
