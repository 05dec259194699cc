"""Certificates and keys, and the masking of secrets in what is shown."""
