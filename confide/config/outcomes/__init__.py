"""Settings of outcomes: one file a kind, and the table that lists them."""
