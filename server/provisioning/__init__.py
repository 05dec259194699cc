"""An authority, certificates, and a start-up kit for each institution."""
