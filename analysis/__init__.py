"""Tables, statistics, verdicts and reports of tracked runs.

It reads the tracking store only and needs no torch. Read `commands` first.
"""
