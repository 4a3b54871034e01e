from __future__ import annotations

import threading

import pytest

from pacsd.index.database import Database
from pacsd.index.jobs import JobQueue
from pacsd.model.objects import NewJob


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(database: Database, clock: Clock) -> JobQueue:
    return JobQueue(database, clock)


def test_a_claimed_job_is_leased_once_and_goes_when_finished(jobs: JobQueue) -> None:
    number = jobs.enqueue(NewJob("send", {"to": "WS1", "n": [1, 2]}))
    [job] = jobs.claim(["send"], "w1", 60, 5)
    assert (job.job_id, job.kind, job.payload, job.attempts) == (number, "send", {"to": "WS1", "n": [1, 2]}, 1)
    assert jobs.claim(["send"], "w2", 60, 5) == []
    jobs.finish(number)
    assert jobs.list() == []


def test_only_asked_kinds_that_are_due_are_claimed_by_priority(jobs: JobQueue, clock: Clock) -> None:
    jobs.enqueue(NewJob("send", {"n": 1}))
    jobs.enqueue(NewJob("send", {"n": 2}, priority=1))
    jobs.enqueue(NewJob("send", {"n": 3}, run_at=2000))
    jobs.enqueue(NewJob("verify", {"n": 4}))
    assert [job.payload["n"] for job in jobs.claim(["send"], "w", 60, 9)] == [2, 1]
    clock.now = 2000
    assert [job.payload["n"] for job in jobs.claim(["send", "verify"], "w", 60, 1)] == [2]


def test_a_lease_that_ended_is_claimed_again(jobs: JobQueue, clock: Clock) -> None:
    number = jobs.enqueue(NewJob("send"))
    jobs.claim(["send"], "dead", 60, 1)
    assert jobs.renew(number, "dead", 120)
    clock.now += 119
    assert jobs.claim(["send"], "alive", 60, 1) == []
    clock.now += 1
    [job] = jobs.claim(["send"], "alive", 60, 1)
    assert job.attempts == 2
    assert not jobs.renew(number, "dead", 60)


def test_jobs_of_one_key_run_in_order(jobs: JobQueue, clock: Clock) -> None:
    first, second, other = (jobs.enqueue(NewJob("send", key=key)) for key in ("WS1", "WS1", "WS2"))
    assert [job.job_id for job in jobs.claim(["send"], "w", 60, 9)] == [first, other]
    assert jobs.retry(first, "refused", 30, 5)
    assert jobs.claim(["send"], "w", 60, 9) == []
    clock.now += 30
    assert [job.job_id for job in jobs.claim(["send"], "w", 60, 9)] == [first]
    jobs.finish(first)
    assert [job.job_id for job in jobs.claim(["send"], "w", 60, 9)] == [second]


def test_a_job_that_failed_too_often_becomes_a_dead_letter_that_can_be_run_again(jobs: JobQueue, clock: Clock) -> None:
    number = jobs.enqueue(NewJob("send", key="WS1"))
    behind = jobs.enqueue(NewJob("send", key="WS1"))
    for expected in (True, False):
        jobs.claim(["send"], "w", 60, 1)
        assert jobs.retry(number, "connection refused", 0, 2) is expected
    [dead] = jobs.list(states=["dead"])
    assert (dead.job_id, dead.error, dead.attempts) == (number, "connection refused", 2)
    assert [job.job_id for job in jobs.claim(["send"], "w", 60, 1)] == [behind]
    jobs.finish(behind)
    assert jobs.rerun(number)
    assert [job.attempts for job in jobs.claim(["send"], "w", 60, 1)] == [1]


def test_a_technician_cancels_drops_and_watches(jobs: JobQueue) -> None:
    number = jobs.enqueue(NewJob("send"))
    jobs.claim(["send"], "w", 60, 1)
    assert not jobs.drop(number)
    jobs.progress(number, 3, 10)
    [state] = jobs.list(kinds=["send"])
    assert (state.n_done, state.n_total, state.owner, state.state) == (3, 10, "w", "running")
    assert jobs.cancel(number)
    assert not jobs.renew(number, "w", 60)
    assert not jobs.retry(number, "late", 0, 9)
    assert not jobs.cancel(number)
    assert jobs.drop(number)
    assert jobs.list() == []


def test_workers_that_claim_at_once_never_share_a_job(jobs: JobQueue, database: Database) -> None:
    for n in range(40):
        jobs.enqueue(NewJob("send", {"n": n}))
    taken: list[int] = []

    def work(name: str) -> None:
        mine = JobQueue(database, lambda: 2000.0)
        while claimed := mine.claim(["send"], name, 60, 3):
            taken.extend(job.job_id for job in claimed)
            for job in claimed:
                mine.finish(job.job_id)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 40
