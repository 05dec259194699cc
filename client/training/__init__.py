"""From received tensors to an update."""
