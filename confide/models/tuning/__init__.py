"""What of an encoder is trained: one file for kinds that are alike, listed in a table."""
