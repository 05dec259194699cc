"""An institution's part in sums that nobody sees inside."""
