from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from pacsd.index import database as database_module
from pacsd.index.database import Database, create_or_upgrade
from pacsd.index.pacs_index import PacsIndex
from pacsd.index.schema import INSTANCE, PEER
from pacsd.model.errors import OutOfResources
from pacsd.model.objects import Outcome
from tests.databases import PostgreSQL, private_postgresql
from tests.index.objects_made import new_instance
from tests.index.test_ingest import assert_counts_are_true


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'index.sqlite'}"
    create_or_upgrade(url)
    return url


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQL]:
    yield from private_postgresql()


def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    def fail(connection: object) -> None:
        connection.execute(  # type: ignore[attr-defined]
            PEER.insert().values(ae_title="A", host="h", port=1, max_associations=1, bytes_per_s=0)
        )
        raise KeyError("mine")

    with pytest.raises(KeyError):
        database.write(fail)
    assert database.read(lambda c: c.scalar(select(func.count()).select_from(PEER))) == 0
    database.write(lambda c: c.execute(PEER.delete()).close())


def test_the_sqlite_files_are_not_for_others(sqlite_url: str, tmp_path: Path) -> None:
    database = Database(sqlite_url)
    PacsIndex(database).record([new_instance()])
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    database.close()
    assert len(modes) >= 3
    assert {mode & 0o027 for mode in modes.values()} == {0}


def test_a_checkpoint_syncs_the_log_that_holds_the_commits(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        real(fd)

    monkeypatch.setattr(database_module.os, "fsync", fsync)
    database = Database(sqlite_url)
    index = PacsIndex(database)
    index.record([new_instance()])
    index.checkpoint()
    database.close()
    assert synced == ["index.sqlite-wal", tmp_path.name]


def test_a_locked_database_is_out_of_resources_and_recovers(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_SQLITE_PRAGMAS", ("PRAGMA busy_timeout = 50", "PRAGMA foreign_keys = ON"))
    index = PacsIndex(Database(sqlite_url))
    other = sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutOfResources):
        index.record([new_instance()])
    other.execute("ROLLBACK")
    other.close()
    assert [r.outcome for r in index.record([new_instance()])] == [Outcome.STORED]
    index.database.close()


def test_a_file_that_is_no_database_is_out_of_resources(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(OutOfResources):
        create_or_upgrade(f"sqlite:///{tmp_path / 'index.sqlite'}")


@pytest.mark.postgresql
def test_postgresql_away_is_out_of_resources_and_service_resumes_by_itself(own_postgresql: PostgreSQL) -> None:
    url = own_postgresql.new_database()
    create_or_upgrade(url)
    index = PacsIndex(Database(url))
    index.record([new_instance()])
    own_postgresql.stop("fast")
    with pytest.raises(OutOfResources):
        index.record([new_instance(sop="2")])
    with pytest.raises(OutOfResources):
        index.missing([b"x" * 32])
    own_postgresql.start()
    assert [r.outcome for r in index.record([new_instance(sop="2")])] == [Outcome.STORED]
    own_postgresql.stop("fast")
    own_postgresql.start()
    assert [r.outcome for r in index.record([new_instance(sop="3")])] == [Outcome.STORED]
    assert index.missing([b"x" * 32]) == {b"x" * 32}
    index.database.close()


def _ingest(url: str, seed: int) -> None:
    index = PacsIndex(Database(url))
    for study in range(3):
        for number in range(12):
            key = (number * 7 + seed * 5) % 12
            batch = [
                new_instance(f"1.{study}", f"1.{study}.{key % 2}", f"1.{study}.{key}.{part}", PatientID=f"P{study % 2}")
                for part in range(3)
            ]
            for recorded in index.record(batch):
                assert recorded.outcome in {Outcome.STORED, Outcome.DUPLICATE}


def test_processes_that_send_the_same_studies_lose_and_double_nothing(database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_ingest, args=(database_url, seed)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    database = Database(database_url)
    assert database.read(lambda c: c.scalar(select(func.count()).select_from(INSTANCE))) == 3 * 12 * 3
    assert_counts_are_true(database)
    database.close()


def _hold_the_lock(url: str) -> None:
    Database(url).write(lambda _: time.sleep(60))


def test_a_writer_killed_in_its_transaction_holds_up_nobody(sqlite_url: str) -> None:
    worker = multiprocessing.get_context("spawn").Process(target=_hold_the_lock, args=(sqlite_url,))
    worker.start()
    index = PacsIndex(Database(sqlite_url))
    time.sleep(1.0)
    done = threading.Event()

    def record() -> None:
        index.record([new_instance()])
        done.set()

    thread = threading.Thread(target=record)
    thread.start()
    assert not done.wait(0.2)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    assert done.wait(10)
    thread.join()
    worker.join()
    index.database.close()


def test_a_wrong_path_is_an_error_and_makes_no_database(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/nothing.sqlite")
    with pytest.raises(OutOfResources):
        database.ready()
    assert list(tmp_path.iterdir()) == []
