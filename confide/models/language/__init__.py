"""Language models that answer: built, their frozen layers kept, and answers written."""
