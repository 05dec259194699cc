"""Records that packages bring, or that are made up, for examples."""
