"""Tracked runs: a journal on disk first, the MLflow store second.

The way of one number to MLflow: `evaluation.scores` computes it, `selftraining.records.recorder`
passes it to `run`, and `run` writes it into the journal.

Read `run` first (what is recorded), then `journal`, `replay` (how a store is brought up to a
journal; `holdings`, what a store has lost) and `tracker` (which runs there are). Below them:
`circuit_breaker` (a store that does not answer), `address`, and the folder `store`, where mlflow is
imported. `reader` reads runs back.
"""
