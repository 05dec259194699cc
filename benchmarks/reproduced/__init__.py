"""Published figures, each with the settings that it was made with, and what makes it here."""
