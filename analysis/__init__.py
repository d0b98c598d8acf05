"""Tracked runs back into tables, statistics and verdicts; it reads the tracking store only and needs no torch."""
