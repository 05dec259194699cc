"""What an explanation has: its parts, and for how many records. Needs no torch."""

RECORDS = 10
"""Records that are explained where none are named."""
PARTS = {
    "attributions": "what each unit of a record adds to what was predicted",
    "counterexamples": "the nearest row for which the model decides otherwise",
    "importance": "what the model loses when a column tells it nothing, on labelled rows",
    "dependence": "how the prediction moves with each column over its public range",
    "curves": "what each column adds, exactly, where a model is a sum of columns",
}
"""Parts of an explanation, and what each says; all but the first are of tables."""

__all__ = ["PARTS", "RECORDS"]
