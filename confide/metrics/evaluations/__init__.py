"""What is told of a model's test beside metrics: a kind of outcome a file."""
