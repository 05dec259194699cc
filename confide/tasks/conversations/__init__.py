"""Conversations: messages that are read, and tokens of a language model that are made of them."""
