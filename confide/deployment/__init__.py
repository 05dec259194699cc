"""Code of deployments that coordinator and institutions share."""
