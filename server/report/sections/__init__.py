"""Parts of the page and the model card that only some runs have, and their pictures."""
