"""Tracked runs: a journal on disk first, the MLflow store second.

Read `run` first (what is recorded), then `journal`, `replay` and `tracker`. Only `mlflow_store`
imports mlflow.
"""
