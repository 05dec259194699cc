"""Between executor and trainer: gRPC on a Unix socket; neither end trusts what comes in."""
