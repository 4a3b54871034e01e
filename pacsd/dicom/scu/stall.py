"""A peer that keeps the connection but takes nothing any more must not hold what we send it for ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from twisted.internet.interfaces import IDelayedCall

from pacsd.dicom.association import Association
from pacsd.runtime.logs import get_logger
from pacsd.workflow.ports import ObjectReader

log = get_logger("pacsd.dicom")

ABORT_GRACE_S: Final = 1.0
"""How long an A-ABORT may take to leave before the connection is cut; a peer that reads nothing never lets it."""


def cut(association: Association) -> None:
    """Abort an association, and close its connection even if the peer takes nothing. Reactor's thread."""
    association.abort()
    association.clock.callLater(ABORT_GRACE_S, association.transport.abortConnection)


class StallGuard:
    """Cuts an association when nothing has moved for twice its DIMSE time limit. Reactor's thread."""

    def __init__(self, association: Association) -> None:
        self._association = association
        self._limit_s = 2.0 * association.settings.dimse_timeout_s
        self._moved_at_s = 0.0
        self._timer: IDelayedCall

    def moved(self) -> None:
        """The peer has made room for more. Thread: any."""
        self._moved_at_s = self._association.clock.seconds()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While something is being sent."""
        self.moved()
        self._timer = self._association.clock.callLater(self._limit_s, self._check)
        try:
            yield
        finally:
            if self._timer.active():
                self._timer.cancel()

    def _check(self) -> None:
        association = self._association
        left_s = self._moved_at_s + self._limit_s - association.clock.seconds()
        if left_s > 0:
            self._timer = association.clock.callLater(left_s, self._check)
            return
        log.warning("peer-takes-nothing", peer=association.called_ae, address=association.peer_address)
        cut(association)


class WatchedReader:
    """An `ObjectReader` whose reads tell a guard that there was room for more."""

    def __init__(self, reader: ObjectReader, guard: StallGuard) -> None:
        self._reader = reader
        self._guard = guard
        self.transfer_syntax_uid = reader.transfer_syntax_uid
        self.dataset_offset = reader.dataset_offset
        self.size_bytes = reader.size_bytes

    def readinto(self, offset: int, buffers: Sequence[memoryview]) -> int:
        """See ObjectReader."""
        self._guard.moved()
        return self._reader.readinto(offset, buffers)

    def close(self) -> None:
        """See ObjectReader."""
        self._reader.close()
