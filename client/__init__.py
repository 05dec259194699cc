"""One institution: its records, its training, its answers."""
