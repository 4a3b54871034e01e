"""One DICOM association over a Twisted transport: the thin adapter around `wire.association`.

The protocol's rules (PS3.8) live in the machine; here bytes go in and out, and time passes. What messages mean is for
`inbound` (towards handlers) and `outbound` (ours, and the peer's answers to them). All on the reactor's thread.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any
from typing import Protocol as Port

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from pacsd.dicom.dispatch import Services, Sink
from pacsd.dicom.inbound import Inbound
from pacsd.dicom.outbound import Outbound, Pace, Prefetched
from pacsd.dicom.terms import AssociationLost, AssociationRejected, AssociationSettings, Context, DimseTimeout
from pacsd.dicom.watchdog import Patience, Watchdog
from pacsd.dicom.wire import events, pdu
from pacsd.dicom.wire.association import AssociationMachine
from pacsd.dicom.wire.dimse import Command, DimseError
from pacsd.runtime.logs import get_logger
from pacsd.runtime.sending import n_queued_bytes, plain_socket, write_now
from pacsd.workflow.ports import ObjectReader, Offload

__all__ = ["Association", "AssociationLost", "AssociationRejected", "AssociationSettings", "Context", "DimseTimeout"]

log = get_logger("pacsd.dicom")

CLOSE_LIMIT_S = 2.0
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class Owner(Port):
    """Who opened or accepted the association and decides for it."""

    def association_requested(self, association: Association, request: pdu.AssociateRequest) -> None:
        """Acceptor only: sets `contexts` and the rest, then calls `association.answer`."""

    def association_open(self, association: Association, accept: pdu.AssociateAccept | None) -> None:
        """The association is established; `accept` is the peer's answer for a requestor."""

    def association_lost(self, association: Association, cause: Exception | None) -> None:
        """It is over or was never established; `cause` is None after an orderly release."""


class Association(Protocol):
    """See the module. Handlers use `respond`, `drained`, `request`, `send_stored`; the rest is for the owner."""

    transport: Any

    def __init__(
        self,
        machine: AssociationMachine,
        owner: Owner,
        services: Services,
        settings: AssociationSettings,
        clock: IReactorTime,
        offload: Offload,
    ) -> None:
        self.calling_ae = ""
        self.called_ae = ""
        self.peer_address = ""
        self.contexts: dict[int, Context] = {}
        self.extended: dict[str, bytes] = {}
        self.user_identity: pdu.UserIdentity | None = None
        self.peer_max_pdu = 16_384
        self.is_open = False
        self.settings = settings
        self.clock = clock
        self.on_lost: list[Callable[[], None]] = []
        self._machine = machine
        self._owner = owner
        self._inbound = Inbound(self, services)
        self._outbound = Outbound(self, offload)
        self._pausers: set[object] = set()
        self._socket: socket.socket | None = None
        self._artim: IDelayedCall | None = None
        self._closing_limit: IDelayedCall | None = None
        patience = Patience(settings.idle_timeout_s, settings.dimse_timeout_s, settings.min_rate_bytes_per_s)
        self._watchdog = Watchdog(self, patience, clock, self._give_up)
        self._cause: Exception | None = None
        self._released = False
        self._release_wanted = False
        self._closing = False
        self._over = False

    # -- Watched -----------------------------------------------------------------------------------------------------

    @property
    def is_listening(self) -> bool:
        """Established, and not paused by us."""
        return self._machine.is_established and not self._pausers

    @property
    def is_inside_message(self) -> bool:
        """The peer owes the rest of a PDU or message."""
        return self._machine.is_inside_pdu or self._inbound.is_inside_message

    @property
    def is_busy(self) -> bool:
        """We owe the peer an answer, or it owes us one."""
        return bool(self._inbound.n_running or self._outbound.n_waiting)

    @property
    def n_queued_bytes(self) -> int:
        """What the peer hasn't taken yet."""
        return n_queued_bytes(self.transport)

    def _give_up(self, event: str, cause: str) -> None:
        log.warning(event, peer=self.calling_ae, called=self.called_ae, address=self.peer_address)
        self._cause = AssociationLost(cause)
        self.abort()

    @property
    def role(self) -> str:
        """'acceptor' or 'requestor'."""
        return self._machine.role

    def contexts_for(self, abstract_syntax: str, *, as_scu: bool = True) -> list[Context]:
        """The accepted contexts of one abstract syntax in which we may be SCU (or SCP)."""
        return [
            context
            for context in self.contexts.values()
            if context.abstract_syntax == abstract_syntax and (context.scu if as_scu else context.scp)
        ]

    # -- transport ---------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Tune the socket and start the machine."""
        transport = self.transport
        transport.bufferSize = self.settings.read_bytes
        transport.SEND_LIMIT = 1 << 20
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self.peer_address = str(getattr(transport.getPeer(), "host", ""))
        self._socket = plain_socket(transport)
        self._outbound.connected(transport)
        self._watchdog.start()
        self.perform(self._machine.transport_connected())

    def dataReceived(self, data: bytes) -> None:
        """Feed the machine and act on what it says."""
        if self._socket is not None and _QUICKACK is not None:
            # The kernel falls back to delayed ACKs by itself; a sender that has Nagle's algorithm on then stalls
            # 40 ms for each object.
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        self._watchdog.heard(len(data))
        self.perform(self._machine.receive(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport is gone: whoever waits is told."""
        self.perform(self._machine.transport_closed())
        if not self._released and self._cause is None:
            self._cause = AssociationLost("the connection was closed")
        self._end()

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        self.is_open = False
        self._watchdog.stop()
        for timer in (self._artim, self._closing_limit):
            if timer is not None and timer.active():
                timer.cancel()
        cause = None if self._released else self._cause
        self._inbound.lost()
        self._outbound.lost(cause or AssociationLost("the association was released"))
        callbacks, self.on_lost = self.on_lost, []
        for callback in callbacks:
            callback()
        self._owner.association_lost(self, cause)

    # -- what the machine says ---------------------------------------------------------------------------------------

    def perform(self, happened: Iterable[events.Event]) -> None:
        """Send what the machine has to send, then act on its events, in order."""
        self._flush()
        fragment = self._inbound.fragment
        for event in happened:
            if type(event) is events.DataFragment:
                try:
                    fragment(event)
                except DimseError as error:
                    log.warning("dimse-error", peer=self.calling_ae, address=self.peer_address, cause=str(error))
                    self.abort(error.source, error.reason)
                    return
            else:
                self._control(event)

    def _flush(self) -> None:
        out = self._machine.data_to_send()
        if out:
            self.transport.write(out)

    def _control(self, event: events.Event) -> None:
        match event:
            case events.AssociationRequested(request=request):
                self.calling_ae, self.called_ae = request.calling_ae, request.called_ae
                self._owner.association_requested(self, request)
            case events.AssociationAccepted(accept=accept):
                self.is_open = True
                self._owner.association_open(self, accept)
            case events.AssociationRejected(result=result, source=source, reason=reason):
                self._cause = AssociationRejected(result, source, reason)
            case events.ReleaseRequested():
                self._release_wanted = True
                self.maybe_accept_release()
            case events.ReleaseConfirmed():
                self._released = True
            case events.Aborted():
                self._aborted(event)
            case events.ArtimStart():
                self._stop_artim()
                self._artim = self.clock.callLater(self.settings.artim_s, self._artim_expired)
            case events.ArtimStop():
                self._stop_artim()
            case events.CloseTransport():
                self._close()

    def _close(self) -> None:
        """Close when all is sent, and in any case soon: a peer that reads nothing would hold the connection for ever.

        The gate goes first: a transport doesn't close while it waits for a producer.
        """
        if not self._closing:
            self._closing = True
            self.is_open = False
            self.transport.unregisterProducer()
            self._closing_limit = self.clock.callLater(CLOSE_LIMIT_S, self.transport.abortConnection)
            self.transport.loseConnection()

    def _aborted(self, event: events.Aborted) -> None:
        self.is_open = False
        if self._cause is None and not self._released:
            if event.connection_lost:
                self._cause = AssociationLost("the connection was cut")
            else:
                who = "by the peer" if event.by_peer else "for the peer's fault"
                self._cause = AssociationLost(f"aborted {who} (source {event.source}, reason {event.reason})")
        self._inbound.lost()

    def _stop_artim(self) -> None:
        if self._artim is not None and self._artim.active():
            self._artim.cancel()
        self._artim = None

    def _artim_expired(self) -> None:
        if self._cause is None and not self._released:
            self._cause = AssociationLost("the peer did not speak in time")
        self.perform(self._machine.artim_expired())

    # -- the owner's side --------------------------------------------------------------------------------------------

    def request_association(self, request: pdu.AssociateRequest) -> None:
        """Requestor: what to propose, before or after the transport is connected."""
        self.calling_ae, self.called_ae = request.calling_ae, request.called_ae
        self.perform(self._machine.request(request))

    def answer(self, answer: pdu.AssociateAccept | pdu.AssociateReject) -> None:
        """Acceptor: the decision on the request."""
        if self._machine.has_ended:
            return
        if isinstance(answer, pdu.AssociateAccept):
            self.is_open = True
            self.perform(self._machine.accept(answer))
            self._owner.association_open(self, None)
        else:
            self._cause = AssociationRejected(answer.result, answer.source, answer.reason)
            self.perform(self._machine.reject(answer.result, answer.source, answer.reason))

    def maybe_accept_release(self) -> None:
        """Answer a release request once nothing is owed to the peer any more."""
        if self._release_wanted and not self._inbound.n_running and not self._over:
            self._release_wanted = False
            self._released = True
            self.is_open = False
            self.perform(self._machine.accept_release())

    async def release(self) -> None:
        """End in good order; returns when the peer agreed or the association is gone by any means."""
        if self._over or not self.is_open:
            return
        over: Deferred[None] = Deferred()
        self.on_lost.append(lambda: over.callback(None))
        self.is_open = False
        self.perform(self._machine.release())
        timer = self.clock.callLater(self.settings.artim_s, self.abort)
        await over
        if timer.active():
            timer.cancel()

    def abort(self, source: int = 0, reason: int = 0) -> None:
        """End at once: A-ABORT (PS3.8 §9.3.8; source 0 the application, 2 the upper layer) and close."""
        if self._over:
            return
        if self._cause is None:
            self._cause = AssociationLost("aborted by us")
        self.is_open = False
        self.perform(self._machine.abort(source, reason))
        if self._machine.role == "requestor" or self.n_queued_bytes:
            self._close()  # a peer that takes nothing won't see the A-ABORT, nor close

    def pause(self, who: object) -> None:
        """Stop reading from the peer until `who` (and everybody else) resumes."""
        if not self._pausers:
            self.transport.pauseProducing()
        self._pausers.add(who)

    def resume(self, who: object) -> None:
        """Take back a pause; without effect if there was none."""
        if who in self._pausers:
            self._pausers.discard(who)
            if not self._pausers and not self._over and not self._closing:
                self._watchdog.resumed()
                self.transport.resumeProducing()

    # -- messages ----------------------------------------------------------------------------------------------------

    def write_pdus(self, pdus: bytes | bytearray) -> None:
        """Write whole P-DATA-TF PDUs. Raises AssociationLost when no data may be sent any more."""
        if not self._machine.can_send_data:
            raise self._cause or AssociationLost("the association is over")
        write_now(self.transport, self._socket, pdus)

    def next_message_id(self) -> int:
        """A Message ID for a request of ours."""
        return self._outbound.next_message_id()

    def respond(self, context_id: int, command: Command, dataset: bytes | None = None) -> None:
        """Send a response; silently dropped when the association is over (there is nobody to tell)."""
        if self._machine.can_send_data:
            self._outbound.send(context_id, command, dataset)

    def respond_encoded(self, context_id: int, command: bytes) -> None:
        """Send a response without data set whose command set is encoded already; dropped like by `respond`."""
        if self._machine.can_send_data:
            self._outbound.send_encoded(context_id, command)

    async def drained(self) -> None:
        """Wait until the transport has room again. Raises AssociationLost."""
        await self._outbound.drained()

    async def request(
        self, context_id: int, command: Command, dataset: bytes | None = None, *, timeout_s: float | None = None
    ) -> tuple[Command, bytes | None]:
        """Send a request and wait for its response. Raises AssociationLost, DimseTimeout."""
        return await self._outbound.request(context_id, command, dataset, timeout_s)

    def responses(
        self, context_id: int, command: Command, dataset: bytes | None = None
    ) -> AsyncIterator[tuple[Command, bytes | None]]:
        """Send a request and give its pending responses and the final one. Raises AssociationLost, DimseTimeout."""
        return self._outbound.responses(context_id, command, dataset)

    def prefetch(self, context_id: int, reader: ObjectReader) -> Prefetched:
        """Start to read an object's first part, framed for this association, for a later `send_stored`."""
        return self._outbound.prefetch(context_id, reader)

    async def send_stored(
        self,
        context_id: int,
        command: Command,
        reader: ObjectReader,
        *,
        prefetched: Prefetched | None = None,
        pace: Pace | None = None,
        timeout_s: float | None = None,
    ) -> Command:
        """Send a C-STORE request with the data set of a stored object; returns the response's command.

        Args: pace: waited for with the bytes of each part before it is sent.

        Raises AssociationLost, DimseTimeout; errors.IntegrityError and OSError from reading, after aborting when a part
        had been sent already.
        """
        return await self._outbound.send_stored(context_id, command, reader, prefetched, pace, timeout_s)

    def cancel(self, context_id: int, message_id: int) -> None:
        """Send C-CANCEL for a request of ours (PS3.7 §9.3.2.3)."""
        self._outbound.cancel(context_id, message_id)

    def stored(self, sink: Sink) -> None:
        """A C-STORE sink has answered."""
        self._inbound.stored(sink)

    def response_received(self, command: Command, dataset: bytes | None) -> None:
        """A response of the peer arrived (called by `inbound`)."""
        self._outbound.received(command, dataset)
