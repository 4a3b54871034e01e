"""A role as a twistd service: its log, its start when the reactor runs, its end with an exit status."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, succeed
from twisted.logger import ILogObserver
from twisted.python.failure import Failure

from pacsd.runtime import logs
from pacsd.runtime.notify import notify, tell_supervisor
from pacsd.runtime.services import Part

log = logs.get_logger(__name__)

_SWITCH_INTERVAL_S = 0.0005
"""How long a thread may hold the interpreter while others wait. Python's default of 5 ms costs a third of
the rate of storing, since the reactor waits that long for each hop to a pool and back."""


class Daemon(Service):
    """Runs one part, usually a `Role`, as all that a process does.

    Args:
        make: Makes the part; called in the reactor thread when the reactor runs, so that nothing is opened
            before twistd has forked or changed user.
        reactor: The reactor.
        stop_limit_s: What running work gets at the stop.
        ready: Called when the part has started; default: tell the supervisor and systemd.
    """

    def __init__(
        self,
        make: Callable[[], Part],
        reactor: Any,
        *,
        stop_limit_s: float,
        ready: Callable[[], object] | None = None,
    ) -> None:
        self._make = make
        self._reactor = reactor
        self._stop_limit_s = stop_limit_s
        self._ready = ready
        self._part: Part | None = None
        self._starting: Deferred[None] = succeed(None)

    def setServiceParent(self, parent: Any) -> None:
        """Join the application, and have twistd log through `pacsd.runtime.logs`."""
        if hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, logs.twisted_observer)
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Start the part as soon as the reactor runs."""
        super().startService()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        self._starting = ensureDeferred(self._start())
        self._starting.addErrback(self._failed)

    async def _start(self) -> None:
        self._part = self._make()
        await self._part.start()
        log.info("ready", pid=os.getpid())
        tell_supervisor()
        notify("READY=1", "STATUS=serving")
        if self._ready is not None:
            self._ready()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        log.error("cannot-start", error=failure.value)
        notify("STATUS=cannot start", f"ERRNO={getattr(failure.value, 'errno', None) or 1}")
        exit_with(os.EX_UNAVAILABLE)
        if self._reactor.running:
            self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        """Stop the part within the limit; twistd waits for it before the reactor ends."""
        super().stopService()
        notify("STOPPING=1")
        self._starting.cancel()
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        if self._part is not None:
            await self._part.stop(self._stop_limit_s)
        log.info("stopped")


def exit_with(status: int) -> None:
    """Have this process end with an exit status of sysexits(3); twistd itself only knows 0."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    atexit.register(leave)
