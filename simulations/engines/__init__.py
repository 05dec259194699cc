"""How the messages of a simulation are carried."""
