"""Models of texts, exported, and the code that goes into their folders."""
