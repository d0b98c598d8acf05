"""The store behind the client: a fresh sqlite database is open to whom the umask lets in."""

from __future__ import annotations

import os

import pytest

from cryossl.tracking.store.client import StoreClient


@pytest.mark.filterwarnings("ignore")  # of libraries below MLflow
@pytest.mark.parametrize(("umask", "made"), [(0o002, 0o664), (0o022, 0o644)])
def test_a_fresh_database_has_the_permissions_that_the_umask_leaves(tmp_path, umask, made):
    path = tmp_path / "mlflow.db"
    before = os.umask(umask)
    try:
        with StoreClient(f"sqlite:///{path}").alone(None):
            pass
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == made
