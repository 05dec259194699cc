"""Frameworks of federated learning at the same work: what `benchmarks/peers.py` measures."""
