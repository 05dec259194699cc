"""Where metrics go besides RUN: one file a tracker, behind :class:`~confide.server.trackers.tracker.Tracker`."""
