"""The queue of work to be done later: outbox rows with leases, retry, dead letters, progress (port `Jobs`).

A claimed job is leased: if its owner dies, it becomes ready again when the lease ends. Jobs of one kind
with the same non-empty key run one after the other, in the order written; a dead one no longer holds up
those behind it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, delete, insert, or_, select, update
from sqlalchemy.engine import Connection

from pacsd.index.database import Database
from pacsd.index.schema import JOB
from pacsd.index.text import clean, key
from pacsd.model.objects import Job, NewJob

READY = "ready"
RUNNING = "running"
DEAD = "dead"
CANCELLED = "cancelled"

MAX_ERROR_CHARS = 500


@dataclass(frozen=True, slots=True)
class JobState:
    """A job as a technician sees it. Times in seconds since the epoch, UTC."""

    job_id: int
    kind: str
    key: str
    state: str
    priority: int
    attempts: int
    run_at: float
    created_at: float
    changed_at: float
    owner: str
    error: str
    n_done: int
    n_total: int
    payload: dict[str, Any]


def job_values(job: NewJob, now: float) -> tuple[Any, ...]:
    """A new job's row, in the order of `ingest_statements.JOB_NAMES`."""
    payload = json.dumps(job.payload, separators=(",", ":"))
    return key(job.kind), key(job.key), job.priority, READY, job.run_at or now, now, now, payload


class JobQueue:
    """The jobs of a database. Every method blocks and may raise errors.OutOfResources; any thread."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def enqueue(self, job: NewJob) -> int:
        """Write a job by itself; returns its number."""
        names = ("kind", "key", "priority", "state", "run_at", "created_at", "changed_at", "payload")
        row = dict(zip(names, job_values(job, self._clock()), strict=True))
        return self._database.write(lambda c: int(c.execute(insert(JOB).values(row).returning(JOB.c.id)).scalar_one()))

    def claim(self, kinds: Sequence[str], owner: str, lease_s: float, n: int) -> list[Job]:
        """Lease up to `n` jobs that are due, smallest priority first, then the longest due."""
        now = self._clock()
        # a look without the write lock first: an idle queue must not hold up the receiving of images
        if not kinds or n <= 0 or not self._database.read(lambda c: c.execute(_due(kinds, now, 1)).first()):
            return []
        return self._database.write(lambda c: _claim(c, kinds, owner, now, lease_s, n))

    def renew(self, job_id: int, owner: str, lease_s: float) -> bool:
        """Lengthen a lease; False when it is no longer the owner's (or the job was cancelled)."""
        values = {"lease_until": self._clock() + lease_s}
        return self._change(job_id, values, JOB.c.state == RUNNING, JOB.c.owner == owner)

    def finish(self, job_id: int) -> None:
        """A claimed job is done: it goes."""
        self._database.write(lambda c: c.execute(delete(JOB).where(JOB.c.id == job_id)).close())

    def retry(self, job_id: int, error: str, delay_s: float, max_attempts: int) -> bool:
        """Put a claimed job back, to be due after `delay_s`; False when it has become a dead letter."""
        now = self._clock()
        text = clean(error)[:MAX_ERROR_CHARS]

        def put_back(connection: Connection) -> bool:
            row = connection.execute(
                select(JOB.c.attempts, JOB.c.state).where(JOB.c.id == job_id).with_for_update()
            ).one_or_none()
            if row is None or row.state in {DEAD, CANCELLED}:
                return False
            state = READY if row.attempts < max_attempts else DEAD
            connection.execute(
                update(JOB)
                .where(JOB.c.id == job_id)
                .values(state=state, owner="", lease_until=0, run_at=now + delay_s, changed_at=now, error=text)
            )
            return state == READY

        return self._database.write(put_back)

    def cancel(self, job_id: int) -> bool:
        """Take a job that isn't done out of the queue, but keep it listed; a running one learns it by
        `renew`.
        """
        return self._change(job_id, {"state": CANCELLED, "owner": ""}, JOB.c.state.in_([READY, RUNNING]))

    def rerun(self, job_id: int) -> bool:
        """Make a dead or cancelled job ready again, with its attempts forgotten."""
        values = {"state": READY, "attempts": 0, "run_at": self._clock(), "owner": "", "lease_until": 0}
        return self._change(job_id, values, JOB.c.state.in_([DEAD, CANCELLED]))

    def drop(self, job_id: int) -> bool:
        """Forget a job that isn't running."""
        dropped = delete(JOB).where(JOB.c.id == job_id, JOB.c.state != RUNNING)
        return self._database.write(lambda c: c.execute(dropped).rowcount > 0)

    def progress(self, job_id: int, n_done: int, n_total: int) -> None:
        """Note how far a job has come."""
        self._change(job_id, {"progress_done": n_done, "progress_total": n_total})

    def list(
        self, *, kinds: Sequence[str] = (), states: Sequence[str] = (), after_id: int = 0, limit: int = 100
    ) -> list[JobState]:
        """Jobs by number, keyset-paged; [] at the end."""
        statement = select(JOB).where(JOB.c.id > after_id).order_by(JOB.c.id).limit(limit)
        if kinds:
            statement = statement.where(JOB.c.kind.in_(kinds))
        if states:
            statement = statement.where(JOB.c.state.in_(states))
        return self._database.read(lambda c: [_job_state(row) for row in c.execute(statement)])

    def _change(self, job_id: int, values: dict[str, Any], *conditions: Any) -> bool:
        statement = update(JOB).where(JOB.c.id == job_id, *conditions).values(**values, changed_at=self._clock())
        return self._database.write(lambda c: c.execute(statement).rowcount > 0)


def _due(kinds: Sequence[str], now: float, n: int) -> Select[Any]:
    earlier = JOB.alias("earlier")
    behind = (
        select(earlier.c.id)
        .where(
            earlier.c.kind == JOB.c.kind,
            earlier.c.key == JOB.c.key,
            earlier.c.id < JOB.c.id,
            earlier.c.state.in_([READY, RUNNING]),
        )
        .exists()
    )
    due = or_(
        and_(JOB.c.state == READY, JOB.c.run_at <= now),
        and_(JOB.c.state == RUNNING, JOB.c.lease_until <= now),
    )
    return (
        select(JOB.c.id, JOB.c.kind, JOB.c.payload, JOB.c.key, JOB.c.attempts)
        .where(JOB.c.kind.in_(list(kinds)), due, or_(JOB.c.key == "", ~behind))
        .order_by(JOB.c.priority, JOB.c.run_at, JOB.c.id)
        .limit(n)
    )


def _claim(connection: Connection, kinds: Sequence[str], owner: str, now: float, lease_s: float, n: int) -> list[Job]:
    rows = connection.execute(_due(kinds, now, n).with_for_update(of=JOB, skip_locked=True)).all()
    if rows:
        connection.execute(
            update(JOB)
            .where(JOB.c.id.in_([row.id for row in rows]))
            .values(
                state=RUNNING, owner=clean(owner), lease_until=now + lease_s, changed_at=now,
                attempts=JOB.c.attempts + 1,
            )
        )  # fmt: skip
    return [Job(row.id, row.kind, json.loads(row.payload), row.key, row.attempts + 1) for row in rows]


def _job_state(row: Any) -> JobState:
    return JobState(
        row.id, row.kind, row.key, row.state, row.priority, row.attempts, row.run_at, row.created_at, row.changed_at,
        row.owner, row.error, row.progress_done, row.progress_total, json.loads(row.payload),
    )  # fmt: skip
