"""Asynchronous strategies: clients are asked one by one, all the time, and not in rounds."""
