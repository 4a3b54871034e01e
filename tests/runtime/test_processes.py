"""The pool's promises, over its inner layer; the reactor's side runs in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from pacsd.model.errors import CannotConvert
from pacsd.runtime.processes import (
    JobFailed,
    JobTimedOut,
    PoolBusy,
    PoolStopped,
    ProcessPool,
    WorkerDied,
    WorkerLimits,
)

MakePool = Callable[..., ProcessPool]

PROBES = """
import os, resource, sys, time
from pacsd.model.errors import CannotConvert

class Unportable(Exception):
    def __init__(self, a, b):
        super().__init__("Doe^Jane")

def fail(): raise CannotConvert("a reason")
def fail_unportable(): raise Unportable(1, 2)
def announce_and_sleep(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)
def facts():
    heavy = {"twisted", "numpy"} & set(sys.modules)
    return resource.getrlimit(resource.RLIMIT_AS)[0], os.nice(0), heavy
def eat(n_bytes): return len(bytearray(n_bytes))
"""


@pytest.fixture
def probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    (tmp_path / "pool_probes.py").write_text(PROBES)
    monkeypatch.syspath_prepend(str(tmp_path))
    import pool_probes

    yield pool_probes
    del sys.modules["pool_probes"]


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    pools: list[ProcessPool] = []

    def make(size: int = 1, max_queued: int = 4, **options: object) -> ProcessPool:
        pools.append(ProcessPool(size, max_queued, **options))  # type: ignore[arg-type]
        return pools[-1]

    yield make
    for pool in pools:
        pool.stop()


def pid_in(path: Path) -> int:
    deadline = time.monotonic() + 10
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, "the job never started"
        time.sleep(0.01)
    return int(path.read_text())


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def test_jobs_run_in_another_process_that_is_used_again(make_pool: MakePool) -> None:
    pool = make_pool()
    first, second = (pool.submit(os.getpid, timeout_s=10).result(10) for _ in range(2))
    assert first == second != os.getpid()


def test_an_error_of_the_job_arrives_as_it_was_raised(make_pool: MakePool, probes: Any) -> None:
    with pytest.raises(CannotConvert, match=r"^a reason$"):
        make_pool().submit(probes.fail, timeout_s=10).result(10)


def test_an_error_that_cannot_travel_is_named_without_its_text(make_pool: MakePool, probes: Any) -> None:
    with pytest.raises(JobFailed) as caught:
        make_pool().submit(probes.fail_unportable, timeout_s=10).result(10)
    assert "Unportable" in str(caught.value)
    assert "Doe" not in str(caught.value)


def test_a_worker_killed_in_mid_job_fails_that_job_only(
    make_pool: MakePool, probes: Any, tmp_path: Path
) -> None:
    pool = make_pool()
    victim = pool.submit(probes.announce_and_sleep, str(tmp_path / "pid"), timeout_s=30)
    behind = pool.submit(os.getpid, timeout_s=10)
    pid = pid_in(tmp_path / "pid")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="SIGKILL"):
        victim.result(10)
    assert behind.result(10) != pid


def test_a_worker_that_crashes_fails_that_job_only(make_pool: MakePool) -> None:
    pool = make_pool()
    with pytest.raises(WorkerDied, match="SIGABRT"):
        pool.submit(os.abort, timeout_s=10).result(10)
    with pytest.raises(WorkerDied, match="exit code 3"):
        pool.submit(os._exit, 3, timeout_s=10).result(10)
    assert pool.submit(abs, -1, timeout_s=10).result(10) == 1


def test_a_job_over_its_limit_is_killed_and_the_next_one_runs(
    make_pool: MakePool, probes: Any, tmp_path: Path
) -> None:
    pool = make_pool()
    slow = pool.submit(probes.announce_and_sleep, str(tmp_path / "pid"), timeout_s=1)
    with pytest.raises(JobTimedOut, match="1 s"):
        slow.result(10)
    assert is_gone(pid_in(tmp_path / "pid"))
    assert pool.submit(abs, -1, timeout_s=10).result(10) == 1


def test_a_full_queue_says_busy_at_once(make_pool: MakePool, probes: Any, tmp_path: Path) -> None:
    pool = make_pool(size=1, max_queued=1)
    pool.submit(probes.announce_and_sleep, str(tmp_path / "pid"), timeout_s=30)
    pid_in(tmp_path / "pid")
    pool.submit(abs, -1, timeout_s=10)
    started = time.monotonic()
    with pytest.raises(PoolBusy):
        pool.submit(abs, -1, timeout_s=10)
    assert time.monotonic() - started < 0.5


def test_a_burst_fills_workers_and_queue_before_it_is_refused(make_pool: MakePool) -> None:
    pool = make_pool(size=2, max_queued=3)
    accepted: list[Future[None]] = [pool.submit(time.sleep, 0.5, timeout_s=10) for _ in range(5)]
    with pytest.raises(PoolBusy):
        pool.submit(time.sleep, 0, timeout_s=10)
    assert [job.result(10) for job in accepted] == [None] * 5


def test_idle_workers_end_and_a_new_job_starts_another(make_pool: MakePool) -> None:
    pool = make_pool(idle_s=0.1)
    pid = pool.submit(os.getpid, timeout_s=10).result(10)
    assert is_gone(pid)
    assert pool.submit(os.getpid, timeout_s=10).result(10) != pid


def test_a_worker_is_replaced_after_its_share_of_jobs(make_pool: MakePool) -> None:
    pool = make_pool(max_jobs_per_worker=2)
    pids = [pool.submit(os.getpid, timeout_s=10).result(10) for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_a_job_that_wants_too_much_memory_fails_alone(make_pool: MakePool, probes: Any) -> None:
    pool = make_pool(limits=WorkerLimits(address_space_bytes=1 << 30))
    with pytest.raises(MemoryError):
        pool.submit(probes.eat, 2 << 30, timeout_s=20).result(20)
    assert pool.submit(probes.eat, 1 << 20, timeout_s=10).result(10) == 1 << 20


def test_a_worker_is_nice_limited_and_lean(make_pool: MakePool, probes: Any) -> None:
    limits = WorkerLimits(address_space_bytes=1 << 30, nice=5)
    facts = make_pool(limits=limits).submit(probes.facts, timeout_s=10).result(10)
    assert facts == (1 << 30, os.nice(0) + 5, set())


def test_stop_fails_what_waits_and_runs_and_takes_nothing_more(
    make_pool: MakePool, probes: Any, tmp_path: Path
) -> None:
    pool = make_pool()
    running = pool.submit(probes.announce_and_sleep, str(tmp_path / "pid"), timeout_s=30)
    waiting = pool.submit(abs, -1, timeout_s=10)
    pid = pid_in(tmp_path / "pid")
    pool.stop()
    for job in (running, waiting):
        with pytest.raises(PoolStopped):
            job.result(1)
    assert is_gone(pid)
    with pytest.raises(PoolStopped):
        pool.submit(abs, -1, timeout_s=10)


REACTOR_SCRIPT = """
import os, sys, time
from twisted.internet import defer, task
from pacsd.runtime.processes import PoolBusy, ProcessPool, WorkerDied

async def main(reactor):
    pool = ProcessPool(1, 1)
    ticks = task.LoopingCall(lambda: None)
    ticks.start(0.01)
    assert await pool.run(abs, -3, timeout_s=10) == 3
    try:
        await pool.run(os.abort, timeout_s=10)
    except WorkerDied:
        print("died")
    sleeping, waiting = pool.run(time.sleep, 60, timeout_s=90), pool.run(abs, -4, timeout_s=10)
    try:
        pool.run(abs, -5, timeout_s=10)
    except PoolBusy:
        print("busy")
    reactor.callLater(0.3, sleeping.cancel)
    try:
        await sleeping
    except defer.CancelledError:
        print("cancelled")
    print(await waiting)
    pool.stop()

task.react(lambda reactor: defer.ensureDeferred(main(reactor)))
"""


def test_the_reactor_gets_results_errors_and_cancels_through_deferreds() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", REACTOR_SCRIPT],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    assert ran.stdout.split() == ["died", "busy", "cancelled", "4"], ran.stderr
