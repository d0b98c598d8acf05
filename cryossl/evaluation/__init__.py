"""From counts to scores and a verdict. Nothing here imports torch or mlflow, or opens a file.

Read `metrics` first, then `scores` and `verdict`. `picking` and `matching` are for scores of
particles.
"""
