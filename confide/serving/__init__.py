"""A model that answers over HTTP: the Open Inference Protocol, version 2, and plain records."""
