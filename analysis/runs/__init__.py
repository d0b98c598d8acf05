"""Tracked runs -> one tidy table, and the arms in it. Read `tidy` first, then `arms`."""
