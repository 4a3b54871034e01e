"""Listening on TCP: an own port, a shared one, or a socket given by systemd or the supervisor."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.tcp import Port

from pacsd.runtime.logs import get_logger

log = get_logger(__name__)

HANDED_DOWN = "PACSD_LISTEN_FDS"
"""Environment variable by which the supervisor hands sockets to its workers: `dicom=3,web=4`."""

_FIRST_SYSTEMD_FD = 3
_BACKLOG = 512


def open_listening(address: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """Open a listening TCP socket.

    `TCP_NODELAY` and keep-alive are set on it; on Linux accepted connections have them from the start.

    Args:
        address: Numeric IPv4 or IPv6 address; `::` takes both.
        port: 0 for any free one.
        reuse_port: Let other processes of this user listen there too; the kernel spreads connections.

    Raises:
        OSError: The port can't be had; the text names address and port.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        opened.bind((address, port))
        _prepare(opened)
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        raise OSError(error.errno, f"{error.strerror}: {address} port {port}") from error
    return opened


def _prepare(opened: socket.socket) -> None:
    opened.setblocking(False)
    if opened.family in (socket.AF_INET, socket.AF_INET6):
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def inherited_fd(role: str, environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the descriptor of the listening socket that this process was given for a role, or None.

    The supervisor's sockets come first, then systemd's (sd_listen_fds(3)): the one whose
    `FileDescriptorName=` is the role, or the only one if systemd gave no names.
    """
    for pair in environment.get(HANDED_DOWN, "").split(","):
        name, _, number = pair.partition("=")
        if name == role and number.isdecimal():
            return int(number)
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = environment.get("LISTEN_FDS", "")
    n_sockets = int(count) if count.isdecimal() else 0
    names = environment.get("LISTEN_FDNAMES", "").split(":") if environment.get("LISTEN_FDNAMES") else []
    for offset in range(n_sockets):
        if names[offset : offset + 1] == [role] or (n_sockets == 1 and not names):
            return _FIRST_SYSTEMD_FD + offset
    return None


class _OneByOnePort(Port):
    """A port that accepts one connection per turn of the reactor.

    Twisted accepts as many as there are; on a socket shared by several processes the first to wake
    would take a whole burst of associations while its siblings stay idle.
    """

    @property
    def numberAccepts(self) -> int:
        return 1

    @numberAccepts.setter
    def numberAccepts(self, _: int) -> None:
        """Twisted scales it by traffic; here it stays."""


class Listener:
    """A part that listens as long as it runs. Thread: reactor.

    Args:
        role: Names the inherited socket, if there is one; shown in the log.
        factory: Makes a protocol per connection.
        address, port: Used when no socket was inherited.
        reactor: The reactor.
        reuse_port: See `open_listening`.
    """

    def __init__(
        self,
        role: str,
        factory: IProtocolFactory,
        address: str,
        port: int,
        reactor: Any,
        *,
        reuse_port: bool = False,
    ) -> None:
        self.name = f"listen-{role}"
        self._role = role
        self._factory = factory
        self._address = address
        self._number = port
        self._reactor = reactor
        self._reuse_port = reuse_port
        self._port: Port | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; the real one if 0 was asked for."""
        return self._number

    async def start(self) -> None:
        """Begin to accept connections.

        Raises:
            OSError: The port can't be had.
        """
        fd = inherited_fd(self._role)
        if fd is None:
            opened = open_listening(self._address, self._number, reuse_port=self._reuse_port)
        else:
            opened = socket.socket(fileno=os.dup(fd))
            _prepare(opened)
        try:
            self._number = opened.getsockname()[1] if opened.family != socket.AF_UNIX else 0
            kind = Port if fd is None else _OneByOnePort
            # What reactor.adoptStreamPort does, for a class of our own.
            self._port = kind._fromListeningDescriptor(  # noqa: SLF001 - see the line above
                self._reactor, opened.fileno(), opened.family, self._factory
            )
            self._port.startListening()
        finally:
            opened.close()
        log.info("listening", role=self._role, address=self._address, port=self._number, inherited=fd is not None)

    def pause(self) -> None:
        """Leave new connections to the other processes on this socket, for a process at its limit."""
        if self._port is not None:
            self._port.stopReading()

    def resume(self) -> None:
        """Accept again."""
        if self._port is not None:
            self._port.startReading()

    async def stop(self, limit_s: float) -> None:
        """Accept no more; open connections are their factory's affair."""
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
