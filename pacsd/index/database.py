"""The one way to the PACS database: a short transaction as a function of a connection, on SQLite and
PostgreSQL.

What a function returns must be plain values: no result, row or connection leaves it. Calls block, so they
are made in worker threads. Any number of threads and processes may share a database.

SQLite keeps a write-ahead log with synchronous=NORMAL: a commit survives the process' death by itself,
and the machine's after `checkpoint()`. Its writers queue on a lock file, first come first served, instead
of on SQLite's sleeping busy handler. On PostgreSQL every commit is durable.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psycopg2  # type: ignore[import-untyped]
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from pacsd.index.revision import SCHEMA_REVISION, current
from pacsd.model.errors import CommitUndecided, OutOfResources

T = TypeVar("T")

BUSY_TIMEOUT_MS = 5_000
MAX_ATTEMPTS = 6
POOL_SIZE = 8
POOL_OVERFLOW = 24
_RETRYABLE_PGCODES = frozenset({"40P01", "40001"})
_UNAVAILABLE_PGCODES = ("08", "53", "57", "58", "25006", "55P03")
"""Connection, resources, operator intervention, system error; read-only server; lock not available
(PostgreSQL A).
"""
_OUR_SQLITE_CODES = frozenset({
    sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_RANGE,
})  # fmt: skip
"""Failures of a statement, not of the database."""

_SQLITE_PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -65536",
    "PRAGMA mmap_size = 1073741824",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA wal_autocheckpoint = 20000",  # for processes that don't call copy_back
    "PRAGMA journal_size_limit = 67108864",
)


class Database:
    """An engine and the rules by which it is used. Any thread.

    Args:
        url: sqlite:///FILE or postgresql://…
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(self.url, "BEGIN") if self.is_sqlite else _postgresql_engine(self.url)
        self._writer = _SqliteWriter(self.url) if self.is_sqlite else None

    def read(self, fn: Callable[[Connection], T]) -> T:
        """Call `fn` in one snapshot (SQLite) or transaction that is rolled back at the end.

        Raises: errors.OutOfResources when the database can't serve now.
        """
        return self._attempts(fn, self._read_once)

    def write(self, fn: Callable[[Connection], T]) -> T:
        """Call `fn` in one transaction and commit it; `fn` may be called again after a deadlock or a lost
        connection.

        Raises: errors.OutOfResources when the database can't serve now; whatever `fn` raises, after a
        rollback.
        """
        return self._attempts(fn, self._write_once)

    def checkpoint(self) -> None:
        """Make every committed row survive a loss of power."""
        if not self.is_sqlite:
            return
        file = _database_file(self.url)
        try:
            _fsync(Path(f"{file}-wal"))
            _fsync(file.parent)
        except OSError as cause:
            raise OutOfResources("the database could not be synced") from cause

    def copy_back(self) -> None:
        """SQLite: move what the write-ahead log holds to the database file, beside the writers; else nothing.

        Called often enough, it spares writers the automatic checkpoint, a pause of many milliseconds within a commit.
        """
        if self.is_sqlite:
            self.read(lambda connection: connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").all())

    def ready(self) -> None:
        """Raise errors.OutOfResources unless the database answers and has this release's schema."""
        if self.read(current) != SCHEMA_REVISION:
            raise OutOfResources("the database's schema is of another release")

    @property
    def is_absent(self) -> bool:
        """Whether there is no such SQLite file; a PostgreSQL server must be asked instead."""
        return self.is_sqlite and not _database_file(self.url).exists()

    def close(self) -> None:
        """Close all connections; the database may be used again afterwards."""
        self.engine.dispose()
        if self._writer is not None:
            self._writer.close()

    def _read_once(self, fn: Callable[[Connection], T]) -> T:
        with self.engine.connect() as connection:
            result = fn(connection)
            connection.rollback()
            return result

    def _write_once(self, fn: Callable[[Connection], T]) -> T:
        if self._writer is not None:
            return self._writer.write(fn)
        with self.engine.connect() as connection:
            return _commit(connection, fn)

    def _attempts(self, fn: Callable[[Connection], T], once: Callable[[Callable[[Connection], T]], T]) -> T:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return once(fn)
            except _Undecided as cause:
                self.engine.dispose()
                raise CommitUndecided("the database was lost while committing") from cause.__cause__
            except PoolTimeout as cause:
                raise OutOfResources("too many database connections are in use") from cause
            except (DBAPIError, sqlite3.Error, psycopg2.Error) as error:
                self._judge(error, attempt)
        raise OutOfResources("the database is too busy")

    def _judge(self, error: Exception, attempt: int) -> None:
        """Return if the transaction may be tried again; else raise what its failure means."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, sqlite3.Error):
            if not isinstance(cause, sqlite3.DatabaseError) or _primary_code(cause) in _OUR_SQLITE_CODES:
                raise error
            raise OutOfResources("the database can't serve now") from error
        code = getattr(cause, "pgcode", None) or ""
        if code in _RETRYABLE_PGCODES:
            time.sleep(0.01 * attempt)
            return
        if code and not code.startswith(_UNAVAILABLE_PGCODES):
            raise error
        if not code and not isinstance(cause, (psycopg2.OperationalError, psycopg2.InterfaceError)):
            raise error
        self.engine.dispose()
        if attempt > 1 or code.startswith(("53", "55", "25")):
            raise OutOfResources("the database can't serve now") from error


def _commit(connection: Connection, fn: Callable[[Connection], T]) -> T:
    connection.begin()
    result = fn(connection)
    try:
        connection.commit()
    except DBAPIError as cause:
        raise _Undecided from cause
    return result


class _SqliteWriter:
    """SQLite's one writing connection of a process, kept open: to fetch it anew costs as much as a small commit."""

    def __init__(self, url: URL) -> None:
        self._engine = _sqlite_engine(url, "BEGIN IMMEDIATE")
        self._lock = _WriteLock(_database_file(url))
        self._connection: Connection | None = None
        self._pid = 0

    def write(self, fn: Callable[[Connection], T]) -> T:
        with self._lock:
            connection = self._connection
            if connection is None or self._pid != os.getpid():
                connection = self._connection = self._engine.connect()
                self._pid = os.getpid()
            try:
                return _commit(connection, fn)
            except BaseException:
                self._abandon(connection)
                raise

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._engine.dispose()

    def _abandon(self, connection: Connection) -> None:
        """Roll back; a connection that can't even do that is thrown away."""
        try:
            connection.rollback()
        except DBAPIError:
            self._connection = None
            connection.invalidate()
            connection.close()


def _primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without its extension; misuse of the module has none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF


class _Undecided(Exception):
    """A commit failed: whether it took place isn't known."""


class _WriteLock:
    """One writer at a time: among threads by a lock, among processes by a blocking flock, released by
    death.
    """

    def __init__(self, database_file: Path) -> None:
        self._path = Path(f"{database_file}-writer.lock")
        self._lock = threading.Lock()
        self._fd = -1
        self._pid = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            if self._pid != os.getpid():
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
                self._pid = os.getpid()
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except OSError as cause:
            self._lock.release()
            raise OutOfResources("the database's lock file can't be opened") from cause

    def __exit__(self, *exc_info: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._lock.release()


def create_or_upgrade(url: str) -> tuple[str | None, str | None]:
    """Bring a database, absent, empty or of an earlier release, to this release's schema; returns it before and after.

    Safe when several processes do it at once: one does, the others wait and find it done.

    Raises: errors.OutOfResources when the database can't be reached or written.
    """
    from pacsd.index import migrate

    database = Database(url)
    if database.is_sqlite:
        with contextlib.suppress(OSError):  # SQLite itself reports it, as an OperationalError
            os.close(os.open(_database_file(database.url), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
    try:
        before = database.read(current)
        database.write(migrate.upgrade)
        return before, database.read(current)
    finally:
        database.close()


def _database_file(url: URL) -> Path:
    assert url.database
    return Path(url.database)


def _sqlite_engine(url: URL, begin_statement: str) -> Engine:
    # mode=rw: a wrong path must be an error, not a new empty database.
    place = f"{_database_file(url).absolute().as_uri()}?mode=rw"

    def create() -> sqlite3.Connection:
        return sqlite3.connect(place, uri=True, cached_statements=512, check_same_thread=False)

    def connect(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None
        for pragma in _SQLITE_PRAGMAS:
            dbapi_connection.execute(pragma).close()

    def begin(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.execute(begin_statement)

    engine = sqlalchemy.create_engine(
        url,
        poolclass=sqlalchemy.QueuePool,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_reset_on_return="rollback",
        creator=create,
    )
    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)
    return engine


def _postgresql_engine(url: URL) -> Engine:
    return sqlalchemy.create_engine(
        url.set(drivername="postgresql+psycopg2"),
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        connect_args={
            "connect_timeout": 5,
            "client_encoding": "utf8",
            "application_name": "pacsd",
            "options": "-c lock_timeout=30s -c idle_in_transaction_session_timeout=300s",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        },
    )


def _fsync(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def opened(url: str) -> Iterator[Database]:
    """A database for one command, closed at the end."""
    database = Database(url)
    try:
        yield database
    finally:
        database.close()
