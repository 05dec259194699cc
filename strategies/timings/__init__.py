"""What the coordinator waits for before it takes a step: rounds, or a buffer of answers."""
