"""One MLflow store: the only place that imports mlflow, and what keeps its calls short and safe.

Read `mlflow_store` first, then `client`. `probe`, `deadline` and `mlflow_errors` turn whatever a
store does into an answer, "away" or "refused" within a bounded time; `sqlite_file` and
`artifact_places` are about stores on disk.
"""
