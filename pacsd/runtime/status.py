"""Each process's own account of itself, on a socket in the state folder: is it ready, what has it counted.

The web role asks every process and shows the sum as `/metrics` and `/readyz`. A process that hangs doesn't
answer, one that was killed leaves a socket nobody answers on: both are told apart from a healthy one without
any file that would have to be kept up to date.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import Metric
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.unix import Port as UnixPort
from twisted.python.failure import Failure

from pacsd.runtime import metrics

_MAX_ANSWER_BYTES = 8 << 20
_SUFFIX = ".status"


def find_sockets(run: Path) -> dict[str, Path]:
    """Find where the processes of a site answer, by name, sorted. Thread: any; one directory is read.

    A process that still winds up and its successor may both be there: the later socket counts.
    """
    found: dict[str, tuple[int, Path]] = {}
    for path in run.glob(f"*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            found[_process_of(path)] = max(found.get(_process_of(path), (0, path)), (path.stat().st_mtime_ns, path))
    return {name: found[name][1] for name in sorted(found)}


def remove_stale(run: Path, process: str = "*") -> None:
    """Remove the sockets of processes that are gone: one name's, when it starts, or all when the supervisor does."""
    for path in run.glob(f"{process}.*{_SUFFIX}"):
        pid = path.name.removesuffix(_SUFFIX).rpartition(".")[2]
        if not Path(f"/proc/{pid}").exists() or pid == str(os.getpid()):
            path.unlink(missing_ok=True)


def _process_of(path: Path) -> str:
    """Return the name of a process from its socket's, `dicom-1.4711.status`.

    The process id keeps a process that winds up from removing its successor's socket.
    """
    return path.name.removesuffix(_SUFFIX).rpartition(".")[0]


def own_account(process: str, roles: dict[str, bool]) -> dict[str, Any]:
    """Say how this process is, in plain values. Thread: reactor.

    Args:
        roles: The roles it runs, and whether each serves.
    """
    families = [
        [
            family.name,
            family.documentation,
            family.type,
            [[s.name, s.labels, s.value] for s in family.samples],
        ]
        for family in metrics.REGISTRY.collect()
    ]
    return {"process": process, "pid": os.getpid(), "roles": roles, "families": families}


class Status:
    """A part that answers on the status socket. Thread: reactor.

    Args:
        run: The folder for sockets; only this user may enter it.
        process: The name of this process.
        roles: Says which roles the process runs and whether each serves.
        reactor: The reactor.
    """

    name = "status"

    def __init__(self, run: Path, process: str, roles: Callable[[], dict[str, bool]], reactor: Any) -> None:
        self._path = run / f"{process}.{os.getpid()}{_SUFFIX}"
        self._process = process
        self._roles = roles
        self._reactor = reactor
        self._port: UnixPort | None = None
        # Twisted goes by the socket's name once more when it removes it.
        self._folder = contextlib.ExitStack()

    async def start(self) -> None:
        """Listen; the socket of a killed predecessor is removed.

        Raises:
            OSError: The folder can't be written.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_stale(self._path.parent, self._process)
        factory = _Answers(lambda: own_account(self._process, self._roles()))
        address = self._folder.enter_context(_short_name(self._path))
        self._port = self._reactor.listenUNIX(address, factory, mode=0o600)

    async def stop(self, limit_s: float) -> None:
        """Stop answering; the socket is removed."""
        port, self._port = self._port, None
        with self._folder:
            if port is not None:
                await maybeDeferred(port.stopListening)


class _Answers(Factory[Protocol]):
    """Makes a protocol per question."""

    noisy = False

    def __init__(self, account: Callable[[], dict[str, Any]]) -> None:
        self._account = account

    def buildProtocol(self, addr: object) -> Protocol:
        """Answer this one."""
        return _Answer(self._account)


class _Answer(Protocol):
    """Writes the account as JSON and closes; takes no request."""

    def __init__(self, account: Callable[[], dict[str, Any]]) -> None:
        self._account = account

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(json.dumps(self._account()).encode())
        self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Ignore it: there is nothing to ask."""


class _Ask(Protocol):
    """Collects an account."""

    def __init__(self) -> None:
        self.answer: Deferred[dict[str, Any]] = Deferred(self._cancelled)
        self._received = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > _MAX_ANSWER_BYTES:
            self._cancelled(self.answer)

    def connectionLost(self, reason: Failure | None = None) -> None:
        if not self.answer.called:
            try:
                self.answer.callback(json.loads(self._received))
            except ValueError as error:
                self.answer.errback(ConnectionError(errno.EPROTO, f"no whole answer: {type(error).__name__}"))

    def _cancelled(self, _: object) -> None:
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]  # every stream transport has it


async def fetch_account(path: Path, reactor: Any, limit_s: float = 2.0) -> dict[str, Any]:
    """Ask a process of this host how it is. Thread: reactor.

    Args:
        path: Its socket.
        limit_s: For the connection, and again for the answer.

    Returns:
        `process`, `pid`, `roles` and `families`, as `own_account` made them.

    Raises:
        Exception: It isn't there, or it didn't answer within `limit_s`.
    """
    with _short_name(path) as address:
        endpoint = UNIXClientEndpoint(reactor, address, timeout=limit_s)
        ask: _Ask = await endpoint.connect(Factory.forProtocol(_Ask))
    ask.answer.addTimeout(limit_s, reactor)
    return await ask.answer


@contextlib.contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """Name a socket by its folder's descriptor: `sun_path` holds 107 bytes, a state folder may be longer."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def merge_families(accounts: Iterable[dict[str, Any]]) -> list[Metric]:
    """Join the numbers of several processes, each sample with a label `process`."""
    merged: dict[str, Metric] = {}
    for account in accounts:
        for name, about, kind, samples in account["families"]:
            family = merged.setdefault(name, Metric(name, about, kind))
            for sample, labels, value in samples:
                family.add_sample(sample, {**labels, "process": account["process"]}, value)
    return list(merged.values())
