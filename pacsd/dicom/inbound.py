"""What an association receives: messages put together and given to their handlers.

C-STORE data sets stream into a sink; the data set of any other request is kept up to a bound. A handler's failure
becomes the response that PS3.7 foresees; the cause goes to the log, never to the peer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pacsd.dicom.dispatch import Request, Services, Sink
from pacsd.dicom.wire import dimse
from pacsd.dicom.wire.dimse import Command, CommandReceived, DatasetFragment, DimseError, MessageAssembler
from pacsd.dicom.wire.events import DataFragment
from pacsd.model.errors import PacsError
from pacsd.runtime.logs import get_logger

if TYPE_CHECKING:
    from pacsd.dicom.association import Association

log = get_logger("pacsd.dicom")

UNRECOGNISED_OPERATION = 0x0211
PROCESSING_FAILURE = 0x0110
RESOURCE_LIMITATION = 0x0213
ERROR_COMMENT_CHARS = 64


def response_to(command: Command, status: int, comment: str | None = None, *, has_dataset: bool = False) -> Command:
    """The response to a request, with the UIDs and the Message ID that it came with (PS3.7 §9.3, §10.3).

    Args: comment: Error Comment, cut to its 64 characters; without patient data.
    """
    response = Command(
        CommandField=command.CommandField | dimse.RESPONSE,
        MessageIDBeingRespondedTo=command.MessageID,
        AffectedSOPClassUID=command.AffectedSOPClassUID or command.RequestedSOPClassUID,
        AffectedSOPInstanceUID=command.AffectedSOPInstanceUID or command.RequestedSOPInstanceUID,
        CommandDataSetType=dimse.HAS_DATASET if has_dataset else dimse.NO_DATASET,
        Status=status,
    )
    if comment:
        response.ErrorComment = comment[:ERROR_COMMENT_CHARS]
    return response


class _Held:
    """A data set that is kept until it is whole."""

    def __init__(self, inbound: Inbound, context_id: int, command: Command, limit_bytes: int) -> None:
        self._inbound = inbound
        self._context_id = context_id
        self._command = command
        self._limit_bytes = limit_bytes
        self._data = bytearray()
        self._too_long = False

    def data(self, fragment: bytes | memoryview) -> None:
        if len(self._data) + len(fragment) > self._limit_bytes:
            self._too_long = True
            self._data = bytearray()
        if not self._too_long:
            self._data += fragment

    def end(self) -> None:
        if not self._too_long:
            self._inbound.whole(self._context_id, self._command, bytes(self._data))
        elif not self._command.is_response:
            answer = response_to(self._command, RESOURCE_LIMITATION, "the data set is too long for this request")
            self._inbound.association.respond(self._context_id, answer)

    def abort(self) -> None:
        self._data.clear()


class Inbound:
    """One association's receiving side. Reactor's thread."""

    def __init__(self, association: Association, services: Services) -> None:
        self.association = association
        self._services = services
        self._assembler = MessageAssembler(association.contexts)
        self._sink: Sink | None = None
        self._sinks: set[Sink] = set()
        self._running: dict[int, Request] = {}

    @property
    def n_running(self) -> int:
        """Requests of the peer that aren't answered finally yet."""
        return len(self._running) + len(self._sinks)

    @property
    def is_inside_message(self) -> bool:
        """Whether the peer owes the rest of a message."""
        return not self._assembler.is_idle

    def fragment(self, part: DataFragment) -> None:
        """Take what the machine found. Raises DimseError when the association must be aborted."""
        got = self._assembler.receive(part)
        if type(got) is DatasetFragment:
            sink = self._sink
            assert sink is not None
            if got.data:
                sink.data(got.data)
            if got.is_last:
                self._sink = None
                sink.end()
        elif type(got) is CommandReceived:
            self._command(got)

    def _command(self, got: CommandReceived) -> None:
        command = got.command
        field = command.CommandField
        if field == dimse.C_STORE_RQ and self._services.store is not None and got.has_dataset:
            context = self.association.contexts[got.context_id]
            sink = self._sink = self._services.store.begin(self.association, context, command)
            self._sinks.add(sink)
        elif got.has_dataset:
            self._sink = _Held(self, got.context_id, command, self._services.max_dataset_bytes)
        else:
            self.whole(got.context_id, command, None)

    def stored(self, sink: Sink) -> None:
        """A C-STORE sink has answered."""
        self._sinks.discard(sink)
        self.association.maybe_accept_release()

    def whole(self, context_id: int, command: Command, dataset: bytes | None) -> None:
        """A message other than a stored object is complete."""
        field = command.CommandField
        if command.is_response:
            self.association.response_received(command, dataset)
        elif field == dimse.C_CANCEL_RQ:
            request = self._running.get(command.MessageIDBeingRespondedTo)
            if request is not None:
                request.cancel()
        else:
            self._run(Request(self.association, self.association.contexts[context_id], command, dataset or b""))

    def _run(self, request: Request) -> None:
        command = request.command
        handler = self._services.handlers.get(command.CommandField)
        message_id = command.MessageID
        if handler is None or message_id in self._running:
            status = UNRECOGNISED_OPERATION if handler is None else 0x0210  # duplicate invocation (PS3.7 C.5.7)
            self.association.respond(request.context.id, response_to(command, status))
            return
        self._running[message_id] = request

        def ended(result: object) -> None:
            del self._running[message_id]
            if isinstance(result, Failure):
                self._failed(request, result)
            self.association.maybe_accept_release()

        Deferred.fromCoroutine(_call(handler, request)).addBoth(ended)

    def _failed(self, request: Request, failure: Failure) -> None:
        error = failure.value
        if request.cancelled and not self.association.is_open:
            return
        if isinstance(error, PacsError):
            log.warning("request-failed", peer=self.association.calling_ae, command=request.command.CommandField,
                        status=error.dicom_status, cause=error.comment)  # fmt: skip
            answer = response_to(request.command, error.dicom_status, error.comment)
        else:
            log.error("request-crashed", peer=self.association.calling_ae, command=request.command.CommandField,
                      error=error)  # fmt: skip
            answer = response_to(request.command, PROCESSING_FAILURE, "internal error")
        self.association.respond(request.context.id, answer)

    def lost(self) -> None:
        """The association is gone: handlers are told, half an object is discarded."""
        for request in list(self._running.values()):
            request.cancel()
        sinks, self._sinks, self._sink = self._sinks, set(), None
        for sink in sinks:
            sink.abort()


async def _call(handler: object, request: Request) -> None:
    await handler(request)  # type: ignore[operator]


__all__ = ["DimseError", "Inbound", "response_to"]
