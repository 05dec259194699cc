"""Settings of strategies and algorithms, and the tables that list them."""
