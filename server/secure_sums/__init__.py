"""The coordinator's part in sums that it does not see inside."""
