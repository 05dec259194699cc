"""Settings of backbones and tuning, and the table that lists them."""
