"""What an institution's operator calls: one module a command, imported by nobody."""
