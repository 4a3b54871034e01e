"""C-GET: the objects come back on the requester's own association (PS3.4 C.4.3)."""

from __future__ import annotations

from time import perf_counter

from twisted.internet.interfaces import IReactorTime

from pacsd.dicom.association import AssociationLost, DimseTimeout
from pacsd.dicom.dispatch import Request
from pacsd.dicom.scp.models import ROOT_OF
from pacsd.dicom.scp.suboperations import Progress, count, identifier_of, refuse
from pacsd.dicom.scu.store import Delivery
from pacsd.dicom.wire.dimse import PRIORITY_MEDIUM
from pacsd.model.errors import PacsError
from pacsd.model.query import Selector
from pacsd.runtime.logs import get_logger
from pacsd.workflow.ports import Index, Offload, Storage
from pacsd.workflow.query import Abilities, IdentifierRefused
from pacsd.workflow.retrieve import Converter, Instances, selector_of

log = get_logger("pacsd.dicom")


class Get:
    """The handler of C-GET requests."""

    def __init__(
        self, index: Index, storage: Storage, offload: Offload, converter: Converter | None, clock: IReactorTime
    ) -> None:
        self._index = index
        self._storage = storage
        self._offload = offload
        self._converter = converter
        self._clock = clock

    async def __call__(self, request: Request) -> None:
        """Answer one request. Raises errors.PacsError, AssociationLost."""
        context = request.context
        abilities = Abilities.of(request.association.extended.get(context.abstract_syntax, b""))
        try:
            _, selector = selector_of(
                ROOT_OF[context.abstract_syntax], identifier_of(request), relational=abilities.relational
            )
        except IdentifierRefused as error:
            refuse(request, error)
            return
        await self._send(request, selector)

    async def _send(self, request: Request, selector: Selector) -> None:
        started_s = perf_counter()
        progress = Progress(request, await count(self._index, self._offload, selector), self._clock)
        delivery = Delivery(
            Instances(selector, self._index, self._storage, self._offload),
            progress.count,
            clock=self._clock,
            converter=self._converter,
            priority=request.command.Priority or PRIORITY_MEDIUM,
            cancelled=lambda: request.cancelled,
        )
        progress.start()
        try:
            await delivery.over(request.association)
        except PacsError as error:
            progress.fail(error)
        except (AssociationLost, DimseTimeout):
            request.association.abort()
            log.info("get-interrupted", peer=request.association.calling_ae, n_completed=progress.counts.completed)
        else:
            progress.finish()
        finally:
            progress.stop()
            delivery.close()
        counts = progress.counts
        log.info("get", peer=request.association.calling_ae, n_completed=counts.completed, n_failed=counts.failed,
                 n_warning=counts.warning, cancelled=request.cancelled,
                 took_ms=round((perf_counter() - started_s) * 1e3, 1))  # fmt: skip
