"""How work reports its progress: events, remaining time, terminal, status file, log.

Read `events` first: one callback and one kind of event. `narrator` sends the events to the
terminal, the status and the log.
"""
