"""What pages have in common: style, tables, templates."""
