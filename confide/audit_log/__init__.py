"""A side's audit log: who did what, when, and why not; chained and signed."""
