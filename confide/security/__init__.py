"""Certificates, keys, and what is kept out of logs."""
