"""What a run tells of models that institutions have of their own."""
