"""Blocking work off the reactor: a named pool of threads with a bound on what may wait for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from pacsd.model.errors import Busy
from pacsd.runtime import metrics

P = ParamSpec("P")
T = TypeVar("T")

_PENDING = metrics.gauge("pacsd_offload_pending", "Pieces of blocking work waiting or running.", ["pool"])
_BUSY = metrics.counter("pacsd_offload_busy", "Pieces of work refused because the pool was full.", ["pool"])


class _Job:
    """One call on its way through the pool."""

    __slots__ = ("args", "cancelled", "deferred", "function", "kwargs", "result")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.cancelled = False
        self.result: Any = None
        self.deferred: Deferred[Any] = Deferred(self._cancel)

    def _cancel(self, _: Deferred[Any]) -> None:
        self.cancelled = True


class Offload:
    """A pool of threads for one kind of blocking work.

    A job that is cancelled before its turn isn't run; one that runs already can't be stopped, its
    result is dropped. Results that finish together wake the reactor once.

    Args:
        name: Shown in metrics, thread names and refusals.
        threads: Threads, at least 1; they start with the first job.
        max_queued: Jobs that may wait beside those that run; one more is refused at once.
        wake: Runs a callable in the reactor thread, from any thread; default: the reactor's.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        max_queued: int,
        *,
        wake: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self.name = name
        self._n_threads = threads
        self._limit = threads + max_queued
        self._wake = wake or _reactor_wake()
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[_Job] = deque()
        self._waking = False
        self._threads: list[threading.Thread] = []
        self._n_pending = 0
        self._stopping = False
        self._idle: list[Deferred[None]] = []
        self._refused = _BUSY.labels(name)
        _PENDING.labels(name).set_function(lambda: self._n_pending)

    @property
    def n_pending(self) -> int:
        """Jobs that wait or run now. Thread: reactor."""
        return self._n_pending

    def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run a blocking function in the pool. Thread: reactor.

        Args:
            fn: It must return plain values: no cursor, no open row, nothing bound to its thread.

        Returns:
            Fires in the reactor thread with the function's result or failure; fails at once with
            `Busy` if the pool is full or stopping.
        """
        if self._stopping or self._n_pending >= self._limit:
            self._refused.inc()
            return fail(Busy(f"{self.name} is {'stopping' if self._stopping else 'busy'}"))
        if not self._threads:
            self._start()
        job = _Job(fn, args, kwargs)
        self._n_pending += 1
        self._queue.put(job)
        return job.deferred

    async def stop(self, limit_s: float, call_later: Callable[..., Any]) -> int:
        """Take no new job and wait for those accepted. Thread: reactor.

        Args:
            limit_s: How long to wait. Threads are daemons: one stuck in the kernel doesn't hold the process.
            call_later: The reactor's `callLater`.

        Returns:
            How many jobs were abandoned.
        """
        self._stopping = True
        if self._n_pending:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            timer = call_later(limit_s, self._release)
            await idle
            if timer.active():
                timer.cancel()
        for _ in self._threads:
            self._queue.put(None)
        return self._n_pending

    def _start(self) -> None:
        for number in range(self._n_threads):
            thread = threading.Thread(target=self._work, name=f"{self.name}-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _work(self) -> None:
        """Thread: the pool's."""
        while (job := self._queue.get()) is not None:
            if not job.cancelled:
                try:
                    job.result = job.function(*job.args, **job.kwargs)
                except BaseException as error:  # noqa: BLE001 - it is handed to the caller, whatever it is
                    job.result = Failure(error)
            self._done.append(job)
            # The reactor clears the flag before it empties the deque, so a job appended while the
            # flag is still up is always seen by the emptying that is on its way.
            if not self._waking:
                self._waking = True
                self._wake(self._deliver)

    def _deliver(self) -> None:
        """Thread: reactor."""
        self._waking = False
        while self._done:
            job = self._done.popleft()
            self._n_pending -= 1
            if not job.cancelled:
                job.deferred.callback(job.result)
        if not self._n_pending:
            self._release()

    def _release(self) -> None:
        waiting, self._idle = self._idle, []
        for idle in waiting:
            idle.callback(None)


def _reactor_wake() -> Callable[[Callable[[], None]], None]:
    from twisted.internet import reactor

    wake: Callable[[Callable[[], None]], None] = reactor.callFromThread  # type: ignore[attr-defined]  # not in its common type
    return wake
