"""What a trained model is for: predictions, and the forms in which others can use it."""
