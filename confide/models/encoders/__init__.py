"""Pretrained encoders, the features they give while frozen, and catalogues of texts."""
