"""What a record of each kind of task is made of, for explanations: one kind, one file."""
