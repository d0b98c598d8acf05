"""MLflow's client for one tracking store: opened once, and called within a bounded time.

mlflow is imported at the first call, not with this module: that takes seconds, and the settings of
`mlflow_environment` have to be in the environment before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from cryossl.system.file_lock import FileLock
from cryossl.system.files import publish
from cryossl.tracking.address import sqlite_path
from cryossl.tracking.journal import LOCK_SECONDS
from cryossl.tracking.store.deadline import limit_answers, within
from cryossl.tracking.store.mlflow_environment import call_seconds, set_mlflow_environment
from cryossl.tracking.store.mlflow_errors import translated
from cryossl.tracking.store.probe import probe
from cryossl.tracking.store.sqlite_file import mlflow_uri, readable_uri, refuse_other_files

if TYPE_CHECKING:
    from mlflow import MlflowClient

# A database needs longer than a server: MLflow waits 20 s for a lock of SQLite.
_LEAST_DATABASE_SECONDS = 60.0
_LEAST_BYTES_PER_SECOND = 100_000
_OPENING_SECONDS = 300.0  # a fresh database is filled with its tables

Answer = TypeVar("Answer")


class StoreClient:
    """The client of one store.

    The constructor may raise ConfigError, every method StoreAwayError or RefusedError.
    """

    def __init__(self, uri: str, *, reads_only: bool = False) -> None:
        """Keep the address; the store is opened at the first call.

        Args:
            uri: as `address.store_uri` returns it.
            reads_only: nothing is written, and no lock is taken; a sqlite file may be read-only.
        """
        refuse_other_files(uri)
        # MLflow reads most of them once, at its import, which the methods below cause.
        set_mlflow_environment()
        self.uri = uri
        self._reads_only = reads_only

    def call(
        self, work: Callable[[MlflowClient], Answer], *, size_bytes: int | None = None
    ) -> Answer:
        """One call of the client within its time: that of all its tries.

        `size_bytes`: of the file that it sends or fetches, which is given its time too.
        """
        seconds = call_seconds() + (size_bytes or 0) / _LEAST_BYTES_PER_SECOND
        if size_bytes is None and urlsplit(self.uri).scheme not in ("http", "https"):
            seconds = max(seconds, _LEAST_DATABASE_SECONDS)
        with translated():
            client = self.__dict__.get("client") or within(_OPENING_SECONDS, lambda: self.client)
            return within(seconds, lambda: work(client))

    @cached_property
    def client(self) -> MlflowClient:
        """Made at the first call: MLflow opens the store then, and makes a fresh one in seconds."""
        from mlflow import MlflowClient

        # The circuit breaker reports each outage once; alembic would list its migrations.
        for name in (
            "urllib3.connectionpool",
            "alembic",
            "mlflow.store",
            "mlflow.system_metrics",
            "mlflow.utils",
        ):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        limit_answers()
        uri, path = self.uri, sqlite_path(self.uri)
        if path is not None:
            uri = readable_uri(path) if self._reads_only else mlflow_uri(str(path))
        return MlflowClient(uri, registry_uri=uri)

    @contextmanager
    def alone(self, locks: Path | None) -> Iterator[None]:
        """Open the store under a file lock: processes that open a new database at once break it."""
        path = sqlite_path(self.uri)
        folder = locks if path is None else path.parent
        with translated(), ExitStack() as stack:
            probe(self.uri)
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(
                    FileLock(folder / (f"{path.name}.lock" if path else "store.lock"), LOCK_SECONDS)
                )
            if path is not None and not path.exists():
                _make_database(path)
            yield


def _make_database(path: Path) -> None:
    """Make a fresh sqlite store under another name, then rename it.

    Making one takes seconds, and one that is left half made would never open.
    """
    from mlflow.store.tracking import sqlalchemy_store

    make_store: Any = sqlalchemy_store.SqlAlchemyStore
    half = path.with_name(f".{path.name}.half")
    for left in path.parent.glob(f"{half.name}*"):
        left.unlink()
    half.touch()  # SQLite would close a new file to a group, whatever the umask leaves
    make_store(mlflow_uri(str(half)), (path.parent / "mlruns").as_uri()).engine.dispose()
    publish(half, path)
