"""From a source of records to encoded units."""
