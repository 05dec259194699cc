"""Drafts of a task's schema, from records: what each column is, and what it should not be used for.

A draft is read by people before anything is trained. Its ranges and categories are statistics of
the records, of which no guarantee of differential privacy speaks: they are marked as drafted
(``task.drafted``) until somebody confirms them.
"""
