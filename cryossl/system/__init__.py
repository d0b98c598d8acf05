"""Files that are whole or absent, locks, processes, durable stages: the base of the other wings.

Read `files` first, then `stages`: a stage is a folder that appears only when every file in it is
complete.
"""
