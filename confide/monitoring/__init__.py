"""What both sides show of themselves over HTTP, on this machine alone."""
