"""Start in order, stop in reverse: what a process is made of, as a tree that can be awaited.

Twisted's `MultiService` doesn't wait for the Deferred of `startService` and swallows its failure; here a
part that doesn't start undoes the ones before it and ends the process with the cause.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, ensureDeferred

from pacsd.runtime.logs import get_logger

log = get_logger(__name__)


class Part(Protocol):
    """Something that runs between a start and a stop. Thread: reactor."""

    name: str

    async def start(self) -> None:
        """Return when it serves; raise if it can't."""

    async def stop(self, limit_s: float) -> None:
        """Return when it is over; give running work at most `limit_s` seconds, then abandon it."""


class Step:
    """A part made of two functions.

    Args:
        name: For the log.
        start: Called at start; its result is awaited if it is awaitable.
        stop: Called at stop with the seconds that are left.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Awaitable[object] | None] | None = None,
        stop: Callable[[float], Awaitable[object] | None] | None = None,
    ) -> None:
        self.name = name
        self._start = start
        self._stop = stop

    async def start(self) -> None:
        """Call the start function."""
        waited = self._start() if self._start else None
        if waited is not None:
            await waited

    async def stop(self, limit_s: float) -> None:
        """Call the stop function."""
        waited = self._stop(limit_s) if self._stop else None
        if waited is not None:
            await waited


class Role:
    """An ordered set of parts that is itself a part; a role's `service.py` returns one.

    Args:
        name: `dicom`, `web`, …; for several processes of one role, `dicom-1`.
        parts: In the order of starting. A listening port comes last, so that nobody is served before
            the rest is there, and is the first to close.
        call_later: The reactor's `callLater`, for the limit on stopping; None: the limit is only passed on.
        now_s: A monotonic clock, seconds.
    """

    def __init__(
        self,
        name: str,
        parts: Sequence[Part],
        *,
        call_later: Callable[..., object] | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.parts = tuple(parts)
        self._call_later = call_later
        self._now_s = now_s
        self._started: list[Part] = []

    @property
    def ready(self) -> bool:
        """Whether every part has started and none has been stopped."""
        return len(self._started) == len(self.parts)

    async def start(self) -> None:
        """Start the parts one after the other.

        Raises:
            Exception: What the first part that failed raised; the parts before it are stopped again.
        """
        for part in self.parts:
            try:
                await part.start()
            except BaseException:
                log.error("start-failed", role=self.name, part=part.name)
                await self.stop(5.0)
                raise
            self._started.append(part)
            log.debug("part-started", role=self.name, part=part.name)

    async def stop(self, limit_s: float) -> None:
        """Stop the started parts in reverse; a part that fails to stop is logged and holds up nobody.

        Args:
            limit_s: For all parts together. A part that overruns what is left is abandoned.
        """
        end_s = self._now_s() + limit_s
        while self._started:
            part = self._started.pop()
            left_s = max(0.0, end_s - self._now_s())
            try:
                await self._within(part, left_s)
            except Exception as error:  # noqa: BLE001 - the other parts must still be stopped
                log.error("stop-failed", role=self.name, part=part.name, error=error)

    async def _within(self, part: Part, left_s: float) -> None:
        stopping: Deferred[None] = ensureDeferred(part.stop(left_s))
        if self._call_later is not None:
            # The part was told its limit; the second on top lets it abort in its own order.
            stopping.addTimeout(left_s + 1.0, _Clock(self._call_later))  # type: ignore[arg-type]  # addTimeout uses callLater only
        await stopping


class _Clock:
    """The part of IReactorTime that `Deferred.addTimeout` uses."""

    def __init__(self, call_later: Callable[..., object]) -> None:
        self.callLater = call_later
