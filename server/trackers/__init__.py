"""Trackers: send a run's metrics to other tools; each implements :class:`.tracker.Tracker`."""
