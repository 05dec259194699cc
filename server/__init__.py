"""The coordinator: rounds, state, what a run leaves."""
