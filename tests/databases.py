"""Databases for tests: SQLite in a file, and a private PostgreSQL that lives as long as the test session."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name.split(".")[0]))
_SETTINGS = ("fsync=off", "full_page_writes=off", "listen_addresses=''", "max_connections=200", "autovacuum=off")


@dataclass
class PostgreSQL:
    """A server on a UNIX socket in a folder of its own."""

    folder: Path
    bin: Path = field(default_factory=lambda: PROGRAMS[-1])
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def create(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        self._call("initdb", "-D", str(self.folder / "data"), "-A", "trust", "-E", "UTF8", "-N", "-U", "pacsd")

    def start(self) -> None:
        options = " ".join(f"-c {setting}" for setting in (*_SETTINGS, f"unix_socket_directories={self.folder}"))
        log = str(self.folder / "log")
        self._call("pg_ctl", "-D", str(self.folder / "data"), "-l", log, "-w", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self._call("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", mode, "stop")

    def new_database(self) -> str:
        name = f"test_{next(self._numbers)}"
        engine = sqlalchemy.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql+psycopg2://pacsd@/{name}?host={self.folder}"

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self.bin / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


def private_postgresql() -> Iterator[PostgreSQL]:
    """A running server, removed at the end; skips where the programs are absent."""
    if not PROGRAMS:
        pytest.skip("PostgreSQL's programs aren't installed in /usr/lib/postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pacsd-pg-"))
    server = PostgreSQL(folder)
    try:
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
