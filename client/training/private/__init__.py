"""Training under differential privacy: clipped sums, noise, and what checks both."""
