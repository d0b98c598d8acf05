"""What is kept of an experiment: tracked runs, result files, models, pictures and messages.

Read `recorder` first; nothing here decides a number.
"""
