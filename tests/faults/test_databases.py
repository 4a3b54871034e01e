"""A database that is locked, can't be written, is full or restarts: A700 or a late success, then service again."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.crash import checker
from tests.crash.made import make, stream
from tests.crash.sender import OUT_OF_RESOURCES, SUCCESS, Account, Lost, Scu, Sender, join_all, start_all
from tests.databases import PostgreSQL, private_postgresql
from tests.faults.disks import fill, small_disk
from tests.live import Site, wait_until

pytestmark = [pytest.mark.crash, pytest.mark.slow]

N_ASSOCIATIONS = 3


@contextmanager
def ingest(site: Site, account: Account, seed: int) -> Iterator[None]:
    """Objects arrive meanwhile; what is refused is sent again until it is taken."""
    stopping = threading.Event()
    senders = [
        Sender(
            (site.host, site.dicom_port), stream(seed, number, N_ASSOCIATIONS), account, stopping,
            calling=f"CT{number}", resend_refused=True, pause_s=0.01,
        )
        for number in range(N_ASSOCIATIONS)
    ]  # fmt: skip
    start_all(senders)
    try:
        yield
        goes_on(account)
    finally:
        stopping.set()
        join_all(senders)


def goes_on(account: Account) -> None:
    """Objects are taken now."""
    n_before = len(account.acknowledged)
    wait_until(lambda: len(account.acknowledged) > n_before + 10, 30.0, "service after the fault")


def settle(site: Site, account: Account) -> None:
    """Send what the senders had to leave open."""
    with Scu((site.host, site.dicom_port)) as scu:
        for item in account.unanswered.copy().values():
            account.answered(item, scu.store(item))
        scu.release()
    assert not account.unanswered
    assert set(account.statuses) <= {SUCCESS, OUT_OF_RESOURCES}


def answers_queries(site: Site) -> None:
    """C-ECHO and C-FIND are answered, and soon."""
    with Scu((site.host, site.dicom_port), timeout_s=3.0) as scu:
        assert scu.echo() == SUCCESS
        assert scu.find("STUDY", StudyInstanceUID="")
        scu.release()


def test_a_locked_database_delays_or_refuses_and_service_resumes(tmp_path: Path) -> None:
    account = Account()
    with Site(tmp_path / "site") as site:
        with ingest(site, account, 21):
            goes_on(account)
            locking = sqlite3.connect(site.state / "index.sqlite", isolation_level=None, timeout=10)
            locking.execute("BEGIN EXCLUSIVE")
            time.sleep(1.0)
            answers_queries(site)
            wait_until(lambda: account.statuses[OUT_OF_RESOURCES], 15.0, "the refusal")
            answers_queries(site)
            locking.execute("ROLLBACK")
            locking.close()
        settle(site, account)
        checker.check(site, account)


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    """A file that even root can't write."""
    done = subprocess.run(["chattr", "+i", path], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("chattr is not possible on this file system")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


@pytest.mark.root
def test_a_database_that_cannot_be_written_refuses_and_service_resumes(tmp_path: Path) -> None:
    account = Account()
    with Site(tmp_path / "site") as site:
        with ingest(site, account, 22):
            goes_on(account)
            with immutable(site.state / "index.sqlite-wal"):
                wait_until(lambda: account.statuses[OUT_OF_RESOURCES] > 2, 15.0, "the refusal")
                answers_queries(site)
        settle(site, account)
        checker.check(site, account)


@pytest.mark.root
def test_a_database_on_a_full_disk_refuses_and_service_resumes(tmp_path: Path) -> None:
    account = Account()
    with small_disk(tmp_path / "disk", 32) as disk:
        url = f"sqlite:///{disk / 'index.sqlite'}"
        site = Site(tmp_path / "site", database=url)
        with site:
            with Scu((site.host, site.dicom_port)) as scu:
                first = make(24, 1_000_000, 100)
                account.answered(first, scu.store(first))
            filler = fill(disk, 300_000)
            with ingest(site, account, 23):
                wait_until(lambda: account.statuses[OUT_OF_RESOURCES] > 2, 30.0, "the refusal")
                answers_queries(site)
                filler.unlink()
            settle(site, account)
            checker.check(site, account, database=url)


@pytest.fixture
def postgresql() -> Iterator[PostgreSQL]:
    yield from private_postgresql()


@contextmanager
def stopped(server: PostgreSQL, mode: str) -> Iterator[None]:
    """A server that is away meanwhile."""
    server.stop(mode)
    try:
        yield
    finally:
        server.start()


def word_to_a_caller(site: Site) -> str:
    """What somebody hears who asks for an association now."""
    try:
        with Scu((site.host, site.dicom_port), calling="OTHER", timeout_s=3.0) as scu:
            return "served" if scu.echo() == SUCCESS else "refused"
    except Lost as lost:
        return str(lost)


@pytest.mark.postgresql
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_postgresql_that_stops_and_starts_during_ingest_loses_nothing(
    tmp_path: Path, postgresql: PostgreSQL, mode: str
) -> None:
    account = Account()
    url = postgresql.new_database()
    with Site(tmp_path / "site", workers=2, database=url) as site:
        with ingest(site, account, 25):
            goes_on(account)
            with stopped(postgresql, mode):
                wait_until(lambda: account.statuses[OUT_OF_RESOURCES] > 2, 15.0, "the refusal")
                assert word_to_a_caller(site) in {"served", "rejected: 2 3 1"}
        settle(site, account)
        site.restart()  # finds out at once what a commit came to that PostgreSQL broke off, instead of within a minute
        checker.check(site, account, database=url)
        answers_queries(site)
