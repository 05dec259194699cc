"""Settings of made-up populations."""
