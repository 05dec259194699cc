"""From a config to a trainable model, and back to a folder."""
