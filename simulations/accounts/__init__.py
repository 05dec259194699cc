"""What simulated institutions spent, and randomness that repeats."""
