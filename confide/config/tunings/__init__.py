"""Settings of kinds of tuning, and their table."""
