"""Records that an institution makes of its rows: histories of interactions, windows of readings."""
