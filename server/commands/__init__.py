"""What a coordinator calls: one module a command, imported by nobody."""
