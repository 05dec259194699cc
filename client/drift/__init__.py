"""Drift: whether records now are still like those that a model was trained on."""
