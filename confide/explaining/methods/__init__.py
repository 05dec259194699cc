"""Methods of attribution: one method, one file."""
