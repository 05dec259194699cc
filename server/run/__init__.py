"""One run and what it leaves, whoever carries its messages."""
