"""Settings of backbones, and the table that lists them."""
