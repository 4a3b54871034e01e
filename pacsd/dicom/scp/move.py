"""C-MOVE: the objects go to a registered destination over associations of ours (PS3.4 C.4.2)."""

from __future__ import annotations

from contextlib import AsyncExitStack
from time import perf_counter

from twisted.internet.defer import CancelledError, Deferred

from pacsd.dicom.dispatch import Request
from pacsd.dicom.scp.models import ROOT_OF
from pacsd.dicom.scp.suboperations import Progress, count, identifier_of, refuse
from pacsd.dicom.scu.destination import Destinations
from pacsd.dicom.scu.store import Delivery, Originator
from pacsd.dicom.wire import status
from pacsd.dicom.wire.dimse import PRIORITY_MEDIUM
from pacsd.model.errors import DestinationUnknown, OutOfResources, PacsError
from pacsd.model.objects import Peer
from pacsd.model.query import Selector
from pacsd.runtime.logs import get_logger
from pacsd.workflow.ports import Index, Offload, Peers, Storage
from pacsd.workflow.query import Abilities, IdentifierRefused
from pacsd.workflow.retrieve import Converter, Instances, selector_of

log = get_logger("pacsd.dicom")


class Move:
    """The handler of C-MOVE requests."""

    def __init__(
        self,
        index: Index,
        storage: Storage,
        peers: Peers,
        offload: Offload,
        converter: Converter | None,
        destinations: Destinations,
    ) -> None:
        self._index = index
        self._storage = storage
        self._peers = peers
        self._offload = offload
        self._converter = converter
        self._destinations = destinations
        self._clock = destinations.network.reactor

    async def __call__(self, request: Request) -> None:
        """Answer one request. Raises errors.PacsError."""
        context = request.context
        abilities = Abilities.of(request.association.extended.get(context.abstract_syntax, b""))
        try:
            _, selector = selector_of(
                ROOT_OF[context.abstract_syntax], identifier_of(request), relational=abilities.relational
            )
        except IdentifierRefused as error:
            refuse(request, error)
            return
        title = request.command.MoveDestination or ""
        try:
            peer = await self._offload.run(self._peers.get, title) if title else None
        except OutOfResources as error:
            raise OutOfResources(error.comment, status=status.OUT_OF_RESOURCES_SUBOPERATIONS) from error
        if peer is None:
            raise DestinationUnknown("the move destination is not registered")
        await self._send(request, selector, peer)

    async def _send(self, request: Request, selector: Selector, peer: Peer) -> None:
        started_s = perf_counter()
        association = request.association
        progress = Progress(request, await count(self._index, self._offload, selector), self._clock)
        delivery = Delivery(
            Instances(selector, self._index, self._storage, self._offload),
            progress.count,
            clock=self._clock,
            converter=self._converter,
            originator=Originator(association.calling_ae, request.command.MessageID),
            priority=request.command.Priority or PRIORITY_MEDIUM,
            cancelled=lambda: request.cancelled,
            throttle=self._destinations.throttle(peer),
        )
        progress.start()
        cause = ""
        try:
            if progress.counts.remaining:
                cause = await self._deliver(request, delivery, peer)
        except PacsError as error:
            progress.fail(error)
        else:
            progress.finish(comment=cause)
        finally:
            progress.stop()
            delivery.close()
        counts = progress.counts
        log.info("move", peer=association.calling_ae, destination=peer.ae_title, n_completed=counts.completed,
                 n_failed=counts.failed, n_warning=counts.warning, cancelled=request.cancelled, cause=cause,
                 took_ms=round((perf_counter() - started_s) * 1e3, 1))  # fmt: skip

    async def _deliver(self, request: Request, delivery: Delivery, peer: Peer) -> str:
        """Wait for the destination's turn, send; returns why the destination was given up, or ''."""
        async with AsyncExitStack() as held:
            waiting = Deferred.fromCoroutine(held.enter_async_context(self._destinations.slot(peer)))
            request.on_cancel.append(waiting.cancel)
            try:
                await waiting
            except CancelledError:
                return ""
            finally:
                request.on_cancel.remove(waiting.cancel)
            if request.cancelled:
                return ""
            return await delivery.to(lambda proposals: self._destinations.connect(peer, proposals))
