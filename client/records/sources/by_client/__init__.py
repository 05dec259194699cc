"""Folders whose files hold the records of many institutions, and name them."""
