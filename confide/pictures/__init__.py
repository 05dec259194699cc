"""Pictures: where they are, what decodes them, and how large a model takes them."""
