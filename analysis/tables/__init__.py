"""Arms -> the comparison tables, and their text. Read `comparison` first, then `summary`."""
