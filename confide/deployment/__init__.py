"""What both sides of a deployment run on."""
