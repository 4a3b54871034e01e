"""The workers of a role: started, handed the listening socket, started again when they die.

The supervisor holds the listening socket, so a connection made while a worker is being replaced waits in
the backlog instead of being refused.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IProcessProtocol, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pacsd.runtime.listen import HANDED_DOWN
from pacsd.runtime.logs import get_logger
from pacsd.runtime.notify import READY_FD

log = get_logger(__name__)

SUPERVISOR = "PACSD_SUPERVISOR"
"""Environment variable with the process id of the supervisor; a worker ends when it is gone."""

_FIRST_DELAY_S = 0.1
_MOST_DELAY_S = 15.0
_SOUND_AFTER_S = 30.0
_CHILD_READY_FD = 3
_CHILD_SOCKET_FD = 4
_PR_SET_PDEATHSIG = 1


def twistd_command(*arguments: str) -> list[str]:
    """Return the command line that runs twistd of this installation in the foreground, without a pid file."""
    beside = Path(sys.executable).with_name("twistd")
    start = [str(beside)] if beside.exists() else ["-c", "from twisted.scripts.twistd import run; run()"]
    return [sys.executable, *start, "--nodaemon", "--pidfile=", *arguments]


def end_with_supervisor(environment: Mapping[str, str] = os.environ) -> None:
    """Have the kernel stop this process when its supervisor dies; called by a worker when it begins.

    Raises:
        SystemExit: The supervisor is gone already.
    """
    supervisor = environment.get(SUPERVISOR, "")
    if not supervisor.isdecimal():
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(supervisor):
        raise SystemExit(os.EX_TEMPFAIL)


class Workers:
    """A part that keeps the processes of one role running. Thread: reactor.

    Args:
        role: Names the processes, `dicom-1`, and the socket they inherit.
        commands: One command line per worker, an absolute path first.
        listening: Opens the socket they share.
        reactor: The reactor.
        ready_limit_s: How long the first start of all workers may take.
    """

    def __init__(
        self,
        role: str,
        commands: Sequence[Sequence[str]],
        listening: Callable[[], socket.socket],
        reactor: Any,
        *,
        ready_limit_s: float = 60.0,
    ) -> None:
        self.name = f"{role}-workers"
        self._open = listening
        self._socket: socket.socket | None = None
        self._reactor = reactor
        self._ready_limit_s = ready_limit_s
        self._workers = [_Worker(f"{role}-{at}", role, command, reactor) for at, command in enumerate(commands, 1)]

    @property
    def names(self) -> list[str]:
        """The names of the processes, as on their status sockets."""
        return [worker.name for worker in self._workers]

    async def start(self) -> None:
        """Start all workers and wait until each listens.

        Raises:
            OSError: The port can't be had.
            ChildProcessError: A worker ended before it was ready, or was not ready in time.
        """
        self._socket = self._open()
        for worker in self._workers:
            worker.begin(self._socket.fileno())
        waiting = DeferredList([worker.ready for worker in self._workers], fireOnOneErrback=True, consumeErrors=True)
        waiting.addTimeout(self._ready_limit_s, self._reactor, onTimeoutCancel=_too_slow)
        try:
            await waiting
        except BaseException as error:
            await self.stop(2.0)
            cause = getattr(error, "subFailure", None)
            if cause is not None:
                raise cause.value from None
            raise

    async def stop(self, limit_s: float) -> None:
        """Ask all workers to stop; kill those that still run after the limit."""
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()
        await DeferredList([worker.end(limit_s) for worker in self._workers])


def _too_slow(_: object, limit_s: float) -> None:
    raise ChildProcessError(f"the workers were not ready within {limit_s:g} s")


class _Worker:
    """One place for a worker, whichever process fills it at the moment."""

    def __init__(self, name: str, role: str, command: Sequence[str], reactor: Any) -> None:
        self.name = name
        self.ready: Deferred[None] = Deferred()
        self._role = role
        self._command = list(command)
        self._reactor = reactor
        self._socket_fd = -1
        self._delay_s = _FIRST_DELAY_S
        self._begun_s = 0.0
        self._process: IProcessTransport | None = None
        self._restart: Any = None
        self._over: Deferred[None] | None = None

    def begin(self, socket_fd: int) -> None:
        """Spawn a process; its output goes to our standard error, line by line as it writes it."""
        self._socket_fd = socket_fd
        self._restart = None
        self._begun_s = self._reactor.seconds()
        self._process = self._reactor.spawnProcess(
            _Watched(self),
            self._command[0],
            self._command,
            env={
                **os.environ,
                SUPERVISOR: str(os.getpid()),
                READY_FD: str(_CHILD_READY_FD),
                HANDED_DOWN: f"{self._role}={_CHILD_SOCKET_FD}",
                "NOTIFY_SOCKET": "",
            },
            childFDs={0: "w", 1: 2, 2: 2, _CHILD_READY_FD: "r", _CHILD_SOCKET_FD: socket_fd},
        )
        log.debug("worker-started", worker=self.name, pid=getattr(self._process, "pid", None))

    def told_ready(self) -> None:
        """The process listens."""
        log.info("worker-ready", worker=self.name, took_s=round(self._reactor.seconds() - self._begun_s, 3))
        if not self.ready.called:
            self.ready.callback(None)

    def ended(self, how: str) -> None:
        """The process is gone: start another one, later each time if it doesn't live long."""
        self._process = None
        if self._over is not None:
            self._over.callback(None)
            return
        lived_s = self._reactor.seconds() - self._begun_s
        log.error("worker-died", worker=self.name, how=how, lived_s=round(lived_s, 1))
        if not self.ready.called:
            self.ready.errback(ChildProcessError(f"{self.name} ended before it was ready: {how}"))
            return
        if lived_s > _SOUND_AFTER_S:
            self._delay_s = _FIRST_DELAY_S
        self._restart = self._reactor.callLater(self._delay_s, self.begin, self._socket_fd)
        self._delay_s = min(_MOST_DELAY_S, self._delay_s * 2)

    def end(self, limit_s: float) -> Deferred[None]:
        """Stop the process; fires when it is gone."""
        if self._restart is not None and self._restart.active():
            self._restart.cancel()
        over: Deferred[None] = Deferred()
        self._over = over
        if self._process is None:
            over.callback(None)
            return over
        self._process.signalProcess("TERM")
        timer = self._reactor.callLater(limit_s, self._kill)

        def in_time(_: object) -> None:
            if timer.active():
                timer.cancel()

        return over.addBoth(in_time)

    def _kill(self) -> None:
        log.error("worker-killed", worker=self.name, how="it did not stop in time")
        if self._process is not None:
            self._process.signalProcess("KILL")


@implementer(IProcessProtocol)
class _Watched(ProcessProtocol):
    """Tells a worker's place what becomes of its process."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._worker.told_ready()

    def processExited(self, reason: Failure) -> None:
        ended = reason.value
        if isinstance(ended, ProcessDone):
            how = "it stopped by itself"
        elif isinstance(ended, ProcessTerminated) and ended.signal:
            how = f"killed by {signal.Signals(ended.signal).name}"
        else:
            how = f"exit status {getattr(ended, 'exitCode', None)}"
        self._worker.ended(how)
