"""Tasks whose records are files: pictures and sounds."""
