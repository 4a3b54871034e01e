"""The responses of C-GET and C-MOVE while their sub-operations run, and the last one (PS3.4 C.4.2.1, C.4.3.1)."""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pacsd.dicom.dispatch import Request
from pacsd.dicom.inbound import response_to
from pacsd.dicom.scu.store import Result
from pacsd.dicom.wire import status
from pacsd.dicom.wire.dimse import Command
from pacsd.model.dataset import Dataset, DatasetError, Element, decode, encode
from pacsd.model.errors import CannotUnderstand, OutOfResources, PacsError
from pacsd.model.query import Selector
from pacsd.model.syntax import transfer_syntax
from pacsd.workflow.ports import Index, Offload
from pacsd.workflow.query import IdentifierRefused
from pacsd.workflow.retrieve import MAX_COUNT, SubOperations

FAILED_SOP_INSTANCE_UID_LIST: Final = 0x00080058

MIN_INTERVAL_S = 0.1
HEARTBEAT_S = 1.0


def identifier_of(request: Request) -> Dataset:
    """Decode a request's identifier. Raises errors.CannotUnderstand."""
    try:
        return decode(request.dataset, transfer_syntax(request.context.transfer_syntax))
    except DatasetError:
        raise CannotUnderstand("the identifier can't be decoded") from None


def refuse(request: Request, error: IdentifierRefused) -> None:
    """Answer an identifier that doesn't fit: status, comment and the elements at fault."""
    response = response_to(request.command, error.dicom_status, error.comment)
    if error.offending:
        response.OffendingElement = error.offending
    request.association.respond(request.context.id, response)


async def count(index: Index, offload: Offload, selector: Selector) -> SubOperations:
    """The count with which a retrieve begins. Raises errors.OutOfResources with the status of Table C.4-2."""
    try:
        return SubOperations(remaining=await offload.run(index.count_instances, selector))
    except OutOfResources as error:
        raise OutOfResources(error.comment, status=status.OUT_OF_RESOURCES_MATCHES) from error


class Progress:
    """Tells the requester how far its retrieve is. Reactor's thread.

    A pending response goes out at once, then when something changed but at most every `MIN_INTERVAL_S`, and every
    `HEARTBEAT_S` when nothing did: a peer that waits for a slow receiver must not take us for dead.
    """

    def __init__(self, request: Request, counts: SubOperations, clock: IReactorTime) -> None:
        self.counts = counts
        self._request = request
        self._clock = clock
        self._last_s = 0.0
        self._heartbeat: IDelayedCall | None = None

    def start(self) -> None:
        """Send the first pending response."""
        self._send_pending()

    def count(self, result: Result) -> None:
        """Book one object's result."""
        if result.is_warning:
            self.counts.warn()
        elif result.is_stored:
            self.counts.succeed()
        else:
            self.counts.fail(result.sop_instance_uid)
        if self.counts.remaining and self._clock.seconds() - self._last_s >= MIN_INTERVAL_S:
            self._send_pending()

    def stop(self) -> None:
        """Send nothing more; further calls have no effect."""
        heartbeat, self._heartbeat = self._heartbeat, None
        if heartbeat is not None and heartbeat.active():
            heartbeat.cancel()

    def finish(self, *, comment: str = "") -> None:
        """Send the final response, with the UIDs of what failed."""
        self.stop()
        request = self._request
        counts = self.counts
        code = counts.status(cancelled=request.cancelled)
        dataset = None
        if counts.failed_uids:
            failed = Dataset({FAILED_SOP_INSTANCE_UID_LIST: Element("UI", tuple(counts.failed_uids))})
            dataset = encode(failed, transfer_syntax(request.context.transfer_syntax), None)
        response = response_to(request.command, code, comment or None, has_dataset=dataset is not None)
        self._fill(response, with_remaining=request.cancelled)
        request.association.respond(request.context.id, response, dataset)

    def fail(self, error: PacsError) -> None:
        """Send the final response of a retrieve that can't go on; what was still to come counts as failed."""
        self.counts.failed += self.counts.remaining
        self.counts.remaining = 0
        if self.counts.completed or self.counts.warning or self.counts.failed_uids:
            self.finish(comment=error.comment)
            return
        self.stop()
        response = response_to(self._request.command, status.OUT_OF_RESOURCES_SUBOPERATIONS, error.comment)
        self._fill(response, with_remaining=False)
        self._request.association.respond(self._request.context.id, response)

    def _send_pending(self) -> None:
        self.stop()
        self._last_s = self._clock.seconds()
        request = self._request
        response = response_to(request.command, status.PENDING)
        self._fill(response, with_remaining=True)
        request.association.respond(request.context.id, response)
        self._heartbeat = self._clock.callLater(HEARTBEAT_S, self._send_pending)

    def _fill(self, response: Command, *, with_remaining: bool) -> None:
        counts = self.counts
        if with_remaining:
            response.NumberOfRemainingSuboperations = min(counts.remaining, MAX_COUNT)
        response.NumberOfCompletedSuboperations = min(counts.completed, MAX_COUNT)
        response.NumberOfFailedSuboperations = min(counts.failed, MAX_COUNT)
        response.NumberOfWarningSuboperations = min(counts.warning, MAX_COUNT)
