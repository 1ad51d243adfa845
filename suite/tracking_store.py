"""Reaching an MLflow store: which one, quietly, with its database made in a second, and with every failure as ``TrackingError``."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from .errors import TrackingError
from .files import atomic_path, home_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

__all__ = ["artifact_folder", "default_uri", "initialise", "locked", "open_store", "sql_store"]

_SQLITE = "sqlite:///"
_SERVERS = ("http", "https", "databricks")
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
_CONNECT_SECONDS = 5.0
# Read by MLflow when it is imported or at each request; what the user has set stays.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # it sends from a thread
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # of 7, with pauses that double: four minutes for a server that is gone
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def default_uri(home: Path) -> str:
    """``$MLFLOW_TRACKING_URI`` if set, else SQLite at ``<home>/mlflow.db``."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{home / 'mlflow.db'}"


def initialise(uri: str) -> None:
    """Make an SQLite store's database if it is not there; other stores are left to themselves.

    Call it before processes fan out, or let each of them call it: they wait for the one that came first. MLflow runs its
    migrations in memory (0.8 s; on a disk they take ten times as long, all of it flushing) and the result is moved into place
    whole. Raises ``TrackingError`` when the folder cannot be written.
    """
    database = _database(uri)
    if database is None or _filled(database):
        return
    folder = database.parent / "mlartifacts"
    with quiet(uri):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            if not _filled(database):
                _create(database, folder)


def artifact_folder(uri: str, home: Path | None) -> Path | None:
    """Where the store's artefacts lie when the client has to say so: beside an SQLite file, below ``home`` for another
    database; None for a server, which knows its own place."""
    database = _database(uri)
    if database is not None:
        return database.parent / "mlartifacts"
    return None if urlsplit(uri).scheme in _SERVERS else home_folder(home) / "mlartifacts"


@contextmanager
def open_store(uri: str) -> Iterator[MlflowClient]:
    """A client for the store, its database made if need be. Raises ``TrackingError`` in seconds when it cannot be reached."""
    initialise(uri)
    with quiet(uri):
        _reach(uri)
        from mlflow import MlflowClient

        yield MlflowClient(tracking_uri=uri)


def sql_store(uri: str) -> SqlAlchemyStore | None:
    """MLflow's own store over a database, which answers for many runs in one query; None behind a server."""
    if urlsplit(uri).scheme in _SERVERS:
        return None
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    return SqlAlchemyStore(uri, "mlartifacts")  # type: ignore[no-untyped-call]  # the folder is that of new experiments: none is made


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on a folder among the processes of this machine; no file is written."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def quiet(uri: str) -> Iterator[None]:
    """Silence MLflow and what it stands on, and turn its failures into one-line ``TrackingError``; both end with the block."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # SQLAlchemy and pydantic, about MLflow's own code
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
        levels = [logger.level for logger in loggers]
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        except (MlflowException, SQLAlchemyError, OSError, ImportError, sqlite3.Error) as problem:
            raise TrackingError(f"{_without_password(uri)}: {_first_line(problem)}") from problem
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _create(database: Path, artifacts: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore("sqlite:///:memory:", str(artifacts))  # type: ignore[no-untyped-call]
    with closing(store.engine.raw_connection()) as memory, atomic_path(database) as part, closing(sqlite3.connect(part)) as file:
        migrated: sqlite3.Connection = memory.driver_connection  # type: ignore[assignment]
        migrated.backup(file)
        file.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", (str(artifacts / "0"),))
        file.commit()


def _filled(database: Path) -> bool:
    return database.exists() and database.stat().st_size > 0


def _database(uri: str) -> Path | None:
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]).absolute() if uri.startswith(_SQLITE) else None


def _reach(uri: str) -> None:
    """Connect once, so that a host that is not there costs seconds: the database drivers' own attempts go on for minutes."""
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    if parts.hostname is None or scheme not in _PORTS or (scheme in getproxies() and not proxy_bypass(parts.hostname)):
        return
    socket.create_connection((parts.hostname, parts.port or _PORTS[scheme]), timeout=_CONNECT_SECONDS).close()


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}"))


def _first_line(problem: BaseException) -> str:
    return next((line.strip() for line in str(problem).splitlines() if line.strip()), type(problem).__name__)
