"""Ends an association whose peer has gone quiet: idle, dripping bytes, or taking nothing any more.

All on the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

SLOW_CHECKS = 2
STALLED_CHECKS = 4
"""Checks in a row, each half a DIMSE time limit apart, after which a peer is given up."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a peer may do nothing.

    Attributes:
        idle_s: without a byte from the peer while nothing is owed to it.
        limit_s: two checks long; see `SLOW_CHECKS` and `STALLED_CHECKS`.
        min_rate_bytes_per_s: what a peer within a message must keep up.
    """

    idle_s: float
    limit_s: float
    min_rate_bytes_per_s: int


class Watched(Protocol):
    """What an association says of itself."""

    @property
    def is_listening(self) -> bool:
        """Established, and not paused by us."""

    @property
    def is_inside_message(self) -> bool:
        """The peer owes the rest of something."""

    @property
    def is_busy(self) -> bool:
        """We owe the peer an answer, or it owes us one."""

    @property
    def n_queued_bytes(self) -> int:
        """What the peer hasn't taken yet."""


class Watchdog:
    """Looks at one association every half of its DIMSE time limit.

    Args:
        give_up: called with the event for the log and the cause.
    """

    def __init__(
        self, watched: Watched, patience: Patience, clock: IReactorTime, give_up: Callable[[str, str], None]
    ) -> None:
        self._watched = watched
        self._patience = patience
        self._clock = clock
        self._give_up = give_up
        self._interval_s = max(0.5, min(patience.idle_s, patience.limit_s) / 2)
        self._timer: IDelayedCall | None = None
        self._heard_at_s = clock.seconds()
        self._n_received = self._n_received_before = 0
        self._n_queued_before = 0
        self._n_slow = self._n_stalled = 0

    def start(self) -> None:
        """Begin; `stop` must follow."""
        self._timer = self._clock.callLater(self._interval_s, self._check)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def heard(self, n_bytes: int) -> None:
        """The peer has sent something."""
        self._heard_at_s = self._clock.seconds()
        self._n_received += n_bytes

    def resumed(self) -> None:
        """We read again; the time before wasn't the peer's."""
        self._heard_at_s = self._clock.seconds()

    def _check(self) -> None:
        self._timer = self._clock.callLater(self._interval_s, self._check)
        n_received, self._n_received_before = self._n_received - self._n_received_before, self._n_received
        watched, patience = self._watched, self._patience
        n_queued, n_queued_before = watched.n_queued_bytes, self._n_queued_before
        self._n_queued_before = n_queued
        self._n_stalled = self._n_stalled + 1 if n_queued and n_queued == n_queued_before else 0
        if self._n_stalled >= STALLED_CHECKS:
            self._give_up("peer-takes-nothing", "the peer takes nothing any more")
        elif not watched.is_listening:
            self._n_slow = 0
        elif watched.is_inside_message:
            is_slow = n_received < patience.min_rate_bytes_per_s * self._interval_s
            self._n_slow = self._n_slow + 1 if is_slow else 0
            if self._n_slow >= SLOW_CHECKS:
                self._give_up("peer-stuck", "the peer sends too slowly")
        else:
            self._n_slow = 0
            if self._clock.seconds() - self._heard_at_s > patience.idle_s and not watched.is_busy:
                self._give_up("peer-idle", "idle for too long")
