"""From counts to scores and a verdict.

Pure: nothing here imports torch or mlflow, or touches a file.

Read `metrics` first, then `scores` and `verdict`.
"""
