"""A small pool of worker processes for work that may be heavy, long or fatal: codecs, above all.

A worker is a fresh interpreter that shares nothing with the daemon but one socket; it imports what its jobs
need and the daemon doesn't. It may crash, hang or eat memory: that costs its own job, and the next job gets a
new worker. One thread per running worker waits on its socket, so the reactor never does.

(Not `multiprocessing`: its spawn re-runs the daemon's main module in each child, its fork copies a process
full of threads, and a dead child of `concurrent.futures` breaks the whole pool.)
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeVar

from pacsd.model.errors import Busy, PacsError

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

T = TypeVar("T")

_BOOTSTRAP = """
import sys
sys.path[:] = {path!r}
from pacsd.runtime import processes
processes._serve({fd}, {limits!r})
"""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_ORPHAN_GRACE_S = 5.0


class PoolBusy(Busy):
    """All workers are at work and the queue is full; nothing was done."""


class PoolStopped(PacsError):
    """The pool was stopped before the job ended."""


class JobFailed(PacsError):
    """The job ended in an error that can't be carried over; the text names its type only."""


class JobTimedOut(PacsError):
    """The job ran longer than its limit; its worker was killed."""


class WorkerDied(PacsError):
    """The worker ended in the middle of the job: a crash in a library, or killed for its memory."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What a worker may take from the machine.

    Attributes:
        address_space_bytes: RLIMIT_AS; a job that needs more meets MemoryError. None: no limit.
        nice: added to the niceness, so that receiving goes before converting.
    """

    address_space_bytes: int | None = 4 << 30
    nice: int = 5


@dataclass(slots=True, eq=False)
class _Job:
    request: bytes
    timeout_s: float
    future: Future[Any] = field(default_factory=Future)
    worker: _Worker | None = None


class ProcessPool:
    """Runs plain functions in worker processes; bounded in workers, in queue and in time.

    Workers start with the first job that needs one and end after `idle_s` without work.

    Args:
        size: most workers at once.
        max_queued: most jobs waiting for a worker; one more raises PoolBusy.
        idle_s: a worker without work for that long ends.
        max_jobs_per_worker: after that many jobs it is replaced, so that a leak in a codec stays small.
        limits: see WorkerLimits.
    """

    def __init__(
        self,
        size: int,
        max_queued: int,
        *,
        idle_s: float = 30.0,
        max_jobs_per_worker: int = 1000,
        limits: WorkerLimits | None = None,
    ) -> None:
        if size < 1 or max_queued < 0:
            raise ValueError("a pool needs a worker, and a queue of no less than nothing")
        self._size = size
        self._max_queued = max_queued
        self._idle_s = idle_s
        self._max_jobs_per_worker = max_jobs_per_worker
        self._limits = limits or WorkerLimits()
        self._changed = threading.Condition()
        self._queue: deque[_Job] = deque()
        self._running: set[_Job] = set()
        self._threads: set[threading.Thread] = set()
        self._n_idle = 0
        self._stopped = False

    def run(self, fn: Callable[..., T], *args: object, timeout_s: float) -> Deferred[T]:
        """Run `fn(*args)` in a worker. Reactor thread only.

        Args:
            fn: a function at module level; it and `args` and what it returns are pickled.
            timeout_s: limit on its run and a new worker's start, without the wait in the queue.


        Returns:
            a Deferred of the result; it fails with what `fn` raised, JobTimedOut, WorkerDied, JobFailed or
            PoolStopped. Cancelling it takes the job out of the queue, or kills its worker.


        Raises:
            PoolBusy: at once, when the queue is full.
            PoolStopped: after `stop`.
        """
        from twisted.internet import reactor
        from twisted.internet.defer import Deferred
        from twisted.internet.interfaces import IReactorFromThreads
        from twisted.python.failure import Failure

        threads = IReactorFromThreads(reactor)
        job = self._submit(fn, args, timeout_s)
        result: Deferred[T] = Deferred(lambda _: self._abandon(job))

        def settle() -> None:
            if result.called or job.future.cancelled():
                return
            error = job.future.exception()
            if error is None:
                result.callback(job.future.result())
            else:
                result.errback(Failure(error))

        job.future.add_done_callback(lambda _: threads.callFromThread(settle))
        return result

    def submit(self, fn: Callable[..., T], *args: object, timeout_s: float) -> Future[T]:
        """The same as `run` for callers without a reactor, from any thread; the Future can be waited for."""
        return self._submit(fn, args, timeout_s).future

    def stop(self, timeout_s: float = 5.0) -> None:
        """Fail what waits and runs with PoolStopped, kill the workers. Blocks shortly; any thread."""
        with self._changed:
            self._stopped = True
            waiting, running, threads = list(self._queue), list(self._running), list(self._threads)
            self._queue.clear()
            self._changed.notify_all()
        for job in waiting + running:
            _settle(job.future, error=PoolStopped("the worker pool was stopped"))
            if job.worker is not None:
                job.worker.condemn()
        for thread in threads:
            thread.join(timeout_s)

    def _submit(self, fn: Callable[..., Any], args: tuple[object, ...], timeout_s: float) -> _Job:
        job = _Job(pickle.dumps((fn, args, timeout_s)), timeout_s)
        with self._changed:
            if self._stopped:
                raise PoolStopped("the worker pool was stopped")
            n_free = self._n_idle + self._size - len(self._threads)
            if len(self._queue) >= self._max_queued + n_free:
                raise PoolBusy("all workers are busy and the queue is full")
            self._queue.append(job)
            if len(self._queue) <= self._n_idle:
                self._changed.notify()
            elif len(self._threads) < self._size:
                thread = threading.Thread(target=self._attend, name="pacsd-worker", daemon=True)
                self._threads.add(thread)
                self._n_idle += 1
                thread.start()
        return job

    def _abandon(self, job: _Job) -> None:
        with self._changed:
            if job in self._queue:
                self._queue.remove(job)
            job.future.cancel()
            if job in self._running and job.worker is not None:
                job.worker.condemn()

    def _attend(self) -> None:
        """One worker's thread: take jobs until there are none for `idle_s`."""
        worker: _Worker | None = None
        while (job := self._next_job()) is not None:
            try:
                worker = self._fit_worker(worker)
                job.worker = worker
                worker.perform(job)
            except OSError as error:
                _settle(job.future, error=JobFailed(f"no worker could be started: {error.strerror}"))
            finally:
                with self._changed:
                    self._running.discard(job)
                    self._n_idle += 1
        if worker is not None:
            worker.close()

    def _fit_worker(self, worker: _Worker | None) -> _Worker:
        if worker is not None:
            if worker.is_fit(self._max_jobs_per_worker):
                return worker
            worker.close()
        return _Worker(self._limits)

    def _next_job(self) -> _Job | None:
        """Wait for a job; None, and the thread no longer counts, when none came or the pool stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopped, self._idle_s)
            self._n_idle -= 1
            if not self._queue:
                self._threads.discard(threading.current_thread())
                return None
            job = self._queue.popleft()
            self._running.add(job)
            return job


class _Worker:
    """The daemon's end of one worker process; used by one thread, but `condemn` by any."""

    def __init__(self, limits: WorkerLimits) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            code = _BOOTSTRAP.format(
                path=sys.path, fd=theirs.fileno(), limits=(limits.address_space_bytes, limits.nice)
            )
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._socket = Connection(ours.detach())
        self._n_jobs = 0
        self._condemned = False

    def is_fit(self, max_jobs: int) -> bool:
        return not self._condemned and self._n_jobs < max_jobs and self._process.poll() is None

    def perform(self, job: _Job) -> None:
        """Have the job done and settle its future, whatever happens to the worker."""
        self._n_jobs += 1
        if job.future.done() or not _start(job.future):
            return
        try:
            self._socket.send_bytes(job.request)
            if not self._socket.poll(job.timeout_s):
                self._end(kill=True)
                _settle(job.future, error=JobTimedOut(f"a worker took longer than {job.timeout_s:g} s"))
                return
            done, value = pickle.loads(self._socket.recv_bytes())  # noqa: S301 (our own child's)
        except (EOFError, OSError):
            _settle(job.future, error=WorkerDied(f"a worker ended {self._end(kill=False)} in mid-job"))
            return
        except Exception as error:  # noqa: BLE001 (unpickling runs constructors of any class)
            self._end(kill=True)
            _settle(job.future, error=JobFailed(f"a worker's answer can't be read ({type(error).__name__})"))
            return
        if done:
            _settle(job.future, value=value)
        else:
            _settle(job.future, error=value)

    def condemn(self) -> None:
        """Kill the process and never give it a job again."""
        self._condemned = True
        self._process.kill()

    def close(self) -> None:
        """Let an idle worker end; it does so when its socket closes."""
        self._socket.close()
        self._end(kill=False)

    def _end(self, *, kill: bool) -> str:
        if kill:
            self._process.kill()
        try:
            code = self._process.wait(_ORPHAN_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


def _start(future: Future[Any]) -> bool:
    """Mark the future as running; False if a stop or a cancel was faster."""
    try:
        return future.set_running_or_notify_cancel()
    except InvalidStateError:
        return False


def _settle(future: Future[Any], *, value: object = None, error: BaseException | None = None) -> None:
    """Give the future its outcome, unless a stop or a cancel was faster."""
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)
    except InvalidStateError:
        return


def _serve(fd: int, limits: tuple[int | None, int]) -> None:
    """A worker's main loop: one pickled call at a time from the socket, until the daemon closes it."""
    address_space_bytes, nice = limits
    os.nice(nice)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if address_space_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes, address_space_bytes))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with Connection(fd) as daemon:
        while True:
            try:
                request = daemon.recv_bytes()
            except EOFError:
                return
            daemon.send_bytes(_perform(request))


def _perform(request: bytes) -> bytes:
    try:
        fn, args, timeout_s = pickle.loads(request)  # noqa: S301 (from our own parent)
        # Should the daemon die meanwhile, nobody else ends a job that hangs: SIGALRM's default action does.
        signal.setitimer(signal.ITIMER_REAL, timeout_s + _ORPHAN_GRACE_S)
        answer = (True, fn(*args))
        return pickle.dumps(answer)
    except Exception as error:  # noqa: BLE001 (whatever a job raises belongs to its caller)
        return _portable(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _portable(error: Exception) -> bytes:
    """The error itself where it survives pickling, else its type's name: its text may hold anything."""
    try:
        portable = pickle.dumps((False, error))
        pickle.loads(portable)  # noqa: S301 (made a line above)
    except Exception:  # noqa: BLE001 (pickling runs methods of any class)
        return pickle.dumps((False, JobFailed(f"the job ended in {type(error).__name__}")))
    return portable
