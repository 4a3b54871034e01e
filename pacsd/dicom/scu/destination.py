"""Peers as destinations: how many associations at once, how fast, and which address is behind a title."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from twisted.internet.defer import DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from pacsd.dicom.association import Association, AssociationRejected
from pacsd.dicom.scu.connect import Network, Proposal, Target, connect
from pacsd.model.objects import Peer

UNLIMITED: Final = 1_000
TRANSIENT: Final = 2
TRANSIENT_PAUSES_S: Final = (1.0, 3.0, 9.0)
BURST_S: Final = 1.0


class Throttle:
    """A token bucket over whole objects: the average rate holds, a single object goes out at the link's speed.

    Args:
        bytes_per_s: at least 1.
    """

    def __init__(self, bytes_per_s: int, clock: IReactorTime) -> None:
        self.bytes_per_s = bytes_per_s
        self._clock = clock
        self._tokens = bytes_per_s * BURST_S
        self._filled_at_s = clock.seconds()

    def take(self, n_bytes: int) -> float:
        """Take the bytes at once; returns how many seconds to wait before sending them."""
        now_s = self._clock.seconds()
        gained = (now_s - self._filled_at_s) * self.bytes_per_s
        self._tokens = min(self.bytes_per_s * BURST_S, self._tokens + gained)
        self._filled_at_s = now_s
        wait_s = max(0.0, -self._tokens / self.bytes_per_s)
        self._tokens -= n_bytes
        return wait_s

    async def pass_(self, n_bytes: int) -> None:
        """Wait until the bytes may be sent."""
        wait_s = self.take(n_bytes)
        if wait_s:
            await deferLater(self._clock, wait_s)


class Destinations:
    """Shared by everything in a process that sends: limits and throttles by destination. Reactor's thread."""

    def __init__(self, network: Network, calling_ae: str) -> None:
        self.network = network
        self.calling_ae = calling_ae
        self._slots: dict[tuple[str, str, int, int], DeferredSemaphore] = {}
        self._throttles: dict[str, Throttle] = {}

    @asynccontextmanager
    async def slot(self, peer: Peer) -> AsyncIterator[None]:
        """Hold one of the peer's associations; waits for its turn, and can be cancelled while it does."""
        key = (peer.ae_title, peer.host, peer.port, peer.max_associations)
        slots = self._slots.get(key)
        if slots is None:
            slots = self._slots[key] = DeferredSemaphore(peer.max_associations or UNLIMITED)
        await slots.acquire()
        try:
            yield
        finally:
            slots.release()
            if slots.tokens == slots.limit:
                self._slots.pop(key, None)

    def throttle(self, peer: Peer) -> Throttle | None:
        """The peer's throttle, shared by all that goes to it; None when it has none."""
        if peer.bytes_per_s <= 0:
            self._throttles.pop(peer.ae_title, None)
            return None
        throttle = self._throttles.get(peer.ae_title)
        if throttle is None or throttle.bytes_per_s != peer.bytes_per_s:
            throttle = self._throttles[peer.ae_title] = Throttle(peer.bytes_per_s, self.network.reactor)
        return throttle

    async def connect(self, peer: Peer, proposals: Sequence[Proposal], *, calling_ae: str | None = None) -> Association:
        """Open an association; a peer that is at its limit is asked again a few times. Raises as `connect`."""
        target = Target(peer.host, peer.port, peer.ae_title)
        for pause_s in (*TRANSIENT_PAUSES_S, None):
            try:
                return await connect(self.network, target, calling_ae or self.calling_ae, proposals)
            except AssociationRejected as error:
                if error.result != TRANSIENT or pause_s is None:
                    raise
            await deferLater(self.network.reactor, pause_s)
        raise AssertionError("the last attempt returns or raises")
