"""What a researcher calls: one module a command, imported by nobody."""
