"""Where records come from: files, folders, databases, and functions of one's own."""
