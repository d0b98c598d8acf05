"""Tuning: each strategy gets equally many trials on settings of its own, by validation F1.

Read `space` and `rules` first, which are pure; `trial` is what one trial does, `tuning` the whole.
"""
