"""kill -9 at random moments of a running ingest: each acknowledged object is there, bit-exact, found, once."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.crash import checker
from tests.crash.made import stream
from tests.crash.sender import Account, Sender, join_all, start_all
from tests.databases import PostgreSQL, private_postgresql
from tests.live import Site

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(240)]

N_ASSOCIATIONS = 4
N_KILLS = 26
"""Of each of the two ways to run; 52 on SQLite in all."""
N_KILLS_POSTGRESQL = 8
KILLS_PER_LIFE = 5
"""After as many the whole site dies and is started anew: a supervisor waits longer with each death of a worker."""


@contextmanager
def ingest(site: Site, account: Account, seed: int) -> Iterator[None]:
    """Four modalities that send mixed sizes meanwhile, into studies that they share."""
    stopping = threading.Event()
    senders = [
        Sender(
            (site.host, site.dicom_port), stream(seed, number, N_ASSOCIATIONS), account, stopping,
            calling=f"CT{number}", resend_refused=True,
        )
        for number in range(N_ASSOCIATIONS)
    ]  # fmt: skip
    start_all(senders)
    try:
        yield
    finally:
        stopping.set()
        join_all(senders)


def kill_workers(site: Site, moments: random.Random, n_kills: int) -> int:
    """Kill workers at random moments of a life of the site, at last all of its processes; how many died."""
    killed = 0
    for _ in range(min(KILLS_PER_LIFE, n_kills - 1)):
        time.sleep(moments.uniform(0.02, 0.5))
        workers = site.workers
        if workers:
            with suppress(ProcessLookupError):
                os.kill(moments.choice(workers), signal.SIGKILL)
                killed += 1
    time.sleep(moments.uniform(0.5, 0.9))
    site.kill()
    return killed + 1


def kill_all(site: Site, moments: random.Random, n_kills: int) -> int:
    """Kill the one process at a random moment."""
    time.sleep(moments.uniform(0.05, 0.6))
    site.kill()
    return 1


def survive(
    site: Site, account: Account, seed: int, n_kills: int, kill: Callable[[Site, random.Random, int], int]
) -> None:
    """Kill until it was enough; the site runs at the end and nobody sends."""
    moments = random.Random(seed)
    killed = 0
    site.start()
    with ingest(site, account, seed):
        while killed < n_kills:
            killed += kill(site, moments, n_kills - killed)
            site.start()
        time.sleep(0.5)
    assert account.n_lost >= n_kills // 2, "the kills hit nobody"
    assert len(account.acknowledged) > n_kills


@pytest.mark.parametrize(("workers", "kill"), [(0, kill_all), (2, kill_workers)], ids=["one process", "two workers"])
def test_nothing_acknowledged_is_lost_by_kills_on_sqlite(tmp_path: Path, workers: int, kill: Callable) -> None:
    site, account = Site(tmp_path / "site", workers=workers), Account()
    try:
        survive(site, account, 40 + workers, N_KILLS, kill)
        # What a killed worker left is settled at the start of another one, when all senders are quiet.
        site.kill()
        site.start()
        checker.check(site, account)
        assert set(account.statuses) <= {0x0000, 0xA700}
    finally:
        site.kill()


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    yield from private_postgresql()


@pytest.mark.postgresql
def test_nothing_acknowledged_is_lost_by_kills_on_postgresql(tmp_path: Path, postgresql: PostgreSQL) -> None:
    url = postgresql.new_database()
    site, account = Site(tmp_path / "site", workers=2, database=url), Account()
    try:
        survive(site, account, 77, N_KILLS_POSTGRESQL, kill_workers)
        site.kill()
        site.start()
        checker.check(site, account, database=url)
        assert set(account.statuses) <= {0x0000, 0xA700}
    finally:
        site.kill()
