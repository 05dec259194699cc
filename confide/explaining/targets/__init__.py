"""What is explained of each kind of outcome: one number of a model's outputs."""
