"""Statistics of a federation: asked for, added up, and told with how sure they are."""
