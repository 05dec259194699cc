"""What an institution has spent of its privacy budgets, and what it answered."""
