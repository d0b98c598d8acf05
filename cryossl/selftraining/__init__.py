"""The experiment: supervised baseline, teacher, pseudo-labels, student, up to three times.

Read `loop` first, the method on one page; then `steps`, `pseudolabels/strategies` and
`records/recorder`.
This file imports nothing, so that commands without torch stay fast.
"""
