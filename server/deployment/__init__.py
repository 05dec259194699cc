"""A coordinator's processes: SuperLink, the front, the process of the rounds."""
