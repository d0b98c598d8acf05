"""Tracked runs: a journal on disk first, the MLflow store second.

The way of one number to MLflow: `evaluation.scores` computes it, `selftraining.recorder` passes it
to `run`, and `run` writes it into the journal.

Read `run` first (what is recorded), then `journal`, `replay` (how a store is brought up to a
journal) and `tracker` (which runs there are). Below them: `circuit_breaker` and `probe` (a store
that does not answer), `mlflow_store` (the only module that imports mlflow), `mlflow_errors`,
`mlflow_environment` and `address`. `reader` reads runs back.
"""
