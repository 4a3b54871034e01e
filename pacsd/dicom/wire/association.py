"""One association's protocol, for either side: bytes and wishes in, bytes and events out (PS3.8 §9).

The owner calls a method, sends what `data_to_send` gives, then acts on the returned events. The machine has
no clock: ARTIM is an event out and a call in. It doesn't know what a context means; that is `negotiate`'s and
`dimse`'s part. Thread: any, one at a time.
"""

from __future__ import annotations

from typing import Final, Literal

from pacsd.dicom.wire.events import (
    Aborted,
    ArtimStart,
    ArtimStop,
    AssociationAccepted,
    AssociationRejected,
    AssociationRequested,
    CloseTransport,
    Event,
    OpenTransport,
    ReleaseConfirmed,
    ReleaseRequested,
)
from pacsd.dicom.wire.items import PduError
from pacsd.dicom.wire.pdu import (
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    Pdu,
    ReleaseRequest,
    ReleaseResponse,
)
from pacsd.dicom.wire.receive import (
    DEFAULT_MAX_ASSOCIATION_PDU,
    DEFAULT_MAX_PDU_LENGTH,
    DataFragment,
    PduReader,
)
from pacsd.dicom.wire.state import TABLE, Argument, Cause, Send, State, effects_of, next_state

__all__ = [
    "Aborted",
    "ArtimStart",
    "ArtimStop",
    "AssociationAccepted",
    "AssociationMachine",
    "AssociationRejected",
    "AssociationRequested",
    "AssociationStateError",
    "CloseTransport",
    "DataFragment",
    "Event",
    "OpenTransport",
    "ReleaseConfirmed",
    "ReleaseRequested",
]

_CAUSE_OF_PDU: Final[dict[type[Pdu], Cause]] = {
    AssociateAccept: Cause.EVT3_ACCEPT_RECEIVED,
    AssociateReject: Cause.EVT4_REJECT_RECEIVED,
    AssociateRequest: Cause.EVT6_REQUEST_RECEIVED,
    ReleaseRequest: Cause.EVT12_RELEASE_RECEIVED,
    ReleaseResponse: Cause.EVT13_RELEASE_ANSWER_RECEIVED,
    Abort: Cause.EVT16_ABORT_RECEIVED,
}
_OPENING: Final = (Cause.EVT1_REQUEST, Cause.EVT2_CONNECTED, Cause.EVT5_CONNECTION_CAME)


class AssociationStateError(RuntimeError):
    """A local call that the association's state doesn't allow: a fault of the caller. Nothing was done."""


class AssociationMachine:
    """The protocol of one association, from connection to close; make a new one for the next.

    A peer can end the association while its owner still decides, even by the bytes behind its request. So
    what the owner does after the end has no effect and is no error.

    Args:
        role: "acceptor" for a connection that came in, "requestor" for one that we open.
        max_pdu_length: the limit that we announce for P-DATA-TF, bytes after the header; 0 for none.
        max_association_pdu: bytes of an A-ASSOCIATE PDU that are read at most.
    """

    def __init__(
        self,
        role: Literal["acceptor", "requestor"],
        max_pdu_length: int = DEFAULT_MAX_PDU_LENGTH,
        max_association_pdu: int = DEFAULT_MAX_ASSOCIATION_PDU,
    ) -> None:
        self.role = role
        self.state = State.STA1_IDLE
        self._reader = PduReader(max_pdu_length, max_association_pdu)
        self._to_send: list[bytes] = []
        self._request: AssociateRequest | None = None
        self._is_connected = False
        self._is_closed = False

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will be received or sent, be it that the transport still has to close."""
        return self._is_closed or self.state is State.STA13_AWAITING_CLOSE

    @property
    def can_send_data(self) -> bool:
        """Whether P-DATA-TF may go out now: established, or the peer waits for our answer to its release."""
        return self.state is State.STA6_READY or self.state is State.STA8_PEER_RELEASING

    @property
    def is_established(self) -> bool:
        """Whether messages may be received, so the peer may be expected to speak."""
        return self.state is State.STA6_READY

    @property
    def n_held_bytes(self) -> int:
        """Bytes of an unfinished PDU that are kept; never more than an association PDU."""
        return self._reader.n_held_bytes

    @property
    def is_inside_pdu(self) -> bool:
        """Whether the peer owes the rest of a PDU."""
        return self._reader.is_inside_pdu

    def data_to_send(self) -> bytes:
        """Give what must go to the peer now, once."""
        if not self._to_send:
            return b""
        data = b"".join(self._to_send)
        self._to_send.clear()
        return data

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the peer: whatever they are, the answer is events and `data_to_send`, no error."""
        events: list[Event] = []
        try:
            for received in self._reader.feed(data):
                if self.state is State.STA1_IDLE:
                    break
                if type(received) is DataFragment:
                    if self.state is State.STA6_READY or self.state is State.STA7_RELEASING:
                        events.append(received)
                    else:
                        self._happen(Cause.EVT10_DATA_RECEIVED, received, events)
                else:
                    self._happen(_CAUSE_OF_PDU[type(received)], received, events)  # type: ignore[index]
        except PduError as error:
            self._happen(Cause.EVT19_INVALID_PDU, error, events)
        return events

    def transport_connected(self) -> list[Event]:
        """The connection stands: an acceptor awaits the request, a requestor sends its own."""
        self._is_connected = True
        if self.role == "requestor":
            return self._command(Cause.EVT2_CONNECTED, self._request)
        return self._command(Cause.EVT5_CONNECTION_CAME)

    def transport_closed(self) -> list[Event]:
        """The connection is gone, by whomever. Gives `Aborted` when the association wasn't over."""
        self._is_connected = False
        events: list[Event] = []
        self._happen(Cause.EVT17_CONNECTION_CLOSED, None, events)
        return events

    def artim_expired(self) -> list[Event]:
        """The timer ran out. Gives `CloseTransport`, or nothing when it had been stopped."""
        events: list[Event] = []
        self._happen(Cause.EVT18_ARTIM_EXPIRED, None, events)
        return events

    def request(self, request: AssociateRequest) -> list[Event]:
        """Ask for an association; goes out when the transport is connected. Only for a requestor, once."""
        if self.role != "requestor":
            raise AssociationStateError("an acceptor does not request")
        events = self._command(Cause.EVT1_REQUEST)
        self._request = request
        return events

    def accept(self, accept: AssociateAccept) -> list[Event]:
        """Answer `AssociationRequested` by yes."""
        return self._command(Cause.EVT7_ACCEPT, accept)

    def reject(self, result: int, source: int, reason: int) -> list[Event]:
        """Answer `AssociationRequested` by no (PS3.8 Table 9-21); the peer closes, or ARTIM does."""
        return self._command(Cause.EVT8_REJECT, AssociateReject(result, source, reason))

    def send_data(self, pdus: bytes) -> list[Event]:
        """Queue whole P-DATA-TF PDUs. A hot path may ask `can_send_data` and write them itself, in order."""
        return self._command(Cause.EVT9_SEND_DATA, pdus)

    def release(self) -> list[Event]:
        """Ask the peer to end the association in good order."""
        return self._command(Cause.EVT11_RELEASE)

    def accept_release(self) -> list[Event]:
        """Answer `ReleaseRequested`, after everything owed was sent."""
        return self._command(Cause.EVT14_ACCEPT_RELEASE)

    def abort(self, source: int = 0, reason: int = 0) -> list[Event]:
        """End the association now, in any state.

        Where the standard foresees no A-ABORT (no association yet, or none any more) the connection is closed
        without one: a server that stops must be able to.
        """
        if (Cause.EVT15_ABORT, self.state) in TABLE:
            return self._command(Cause.EVT15_ABORT, Abort(source, reason))
        self.state = State.STA1_IDLE
        self._is_closed = True
        return [ArtimStop(), CloseTransport()] if self._is_connected else []

    def _command(self, cause: Cause, argument: Argument = None) -> list[Event]:
        if self.has_ended and cause not in _OPENING:
            return []
        if self._is_closed or (cause, self.state) not in TABLE:
            raise AssociationStateError(f"{cause.name} in {self.state.name}")
        events: list[Event] = []
        self._happen(cause, argument, events)
        return events

    def _happen(self, cause: Cause, argument: Argument, events: list[Event]) -> None:
        transition = TABLE.get((cause, self.state))
        if transition is None:
            return
        effects = effects_of(transition.action, argument)
        self.state = next_state(transition, argument, is_requestor=self.role == "requestor")
        self._is_closed = self.state is State.STA1_IDLE
        for effect in effects:
            if isinstance(effect, Send):
                self._to_send.append(effect.data)
            else:
                events.append(effect)
