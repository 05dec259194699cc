"""Algorithms: one file each, what a client does in a round and the server's counterpart of it."""
