"""From files and words to a config: composition, own folders, mistakes with file and line."""
