"""Telling whoever started this process how it is: systemd (sd_notify(3)) or the supervisor."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from pacsd.runtime.logs import get_logger

log = get_logger(__name__)

READY_FD = "PACSD_READY_FD"
"""Environment variable with the descriptor on which a worker tells the supervisor that it listens."""


def notify(*states: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Send states such as `READY=1`, `STOPPING=1`, `STATUS=…` to systemd.

    Returns:
        Whether there was somebody to tell and it could be told.
    """
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as line:
        try:
            line.sendto("\n".join(states).encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
        except OSError as error:
            log.warning("notify-failed", error=error)
            return False
    return True


def tell_supervisor(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell the supervisor that every port of this worker listens.

    Returns:
        Whether this process has one.
    """
    number = environment.get(READY_FD, "")
    if not number.isdecimal():
        return False
    try:
        os.write(int(number), b"ready\n")
    except OSError as error:
        log.warning("notify-failed", error=error)
        return False
    return True


class Watchdog:
    """A part that feeds systemd's watchdog from the reactor: a reactor that hangs is restarted.

    Args:
        call_later: The reactor's `callLater`.
        environment: `WATCHDOG_USEC`, and `WATCHDOG_PID` if it is there, say whether and how often.
    """

    name = "watchdog"

    def __init__(self, call_later: Callable[..., Any], environment: Mapping[str, str] = os.environ) -> None:
        self._call_later = call_later
        self._environment = environment
        self._timer: Any = None
        limit = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.interval_s = int(limit) / 1e6 / 3 if limit.isdecimal() and ours else 0.0

    async def start(self) -> None:
        """Feed it three times in each period, if systemd asked for it."""
        if self.interval_s:
            self._feed()

    def _feed(self) -> None:
        notify("WATCHDOG=1", environment=self._environment)
        self._timer = self._call_later(self.interval_s, self._feed)

    async def stop(self, limit_s: float) -> None:
        """Stop feeding it; systemd's TimeoutStopSec= takes over."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
